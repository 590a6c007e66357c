"""Label files in, checked records and verl's parquet out."""
