"""What evaluation and inference write for people: tables and pictures."""
