"""The generator: it encodes a user's history item by item and decodes the next item's semantic ID code by code."""
