"""Item content to one vector per item: text, sentences, categories, numbers, ready-made vectors, images and videos."""
