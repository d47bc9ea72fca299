"""What a recommended list is worth: figures per case, their uncertainty, where they come from, and the page that shows them."""
