"""Any classifier of texts or pairs of texts: GLUE's tasks, one's own files, search for settings, a bundle."""
