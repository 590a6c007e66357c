"""Read label files, check each row, and write verl's parquet."""
