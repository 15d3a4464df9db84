"""From images to masks, volumes and a page: a bundle's ``inference.json``, run image by image."""
