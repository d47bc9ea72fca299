"""What a recommended list is worth: figures per case, their uncertainty, their origin, and a page that shows them."""
