"""A second language for an English tower: new words, where they start, and what they are taught from."""
