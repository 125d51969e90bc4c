"""Everything that needs torch: training, distilling, quantising, exporting. Nothing outside imports it."""
