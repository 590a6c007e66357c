"""The `verl.plugins` entry point: verl imports this module in every process that imports verl."""
