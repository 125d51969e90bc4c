"""From torch modules to the graphs of a bundle: traced, quantised, counted."""
