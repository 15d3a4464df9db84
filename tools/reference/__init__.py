"""The reference page of the attention modules."""
