"""Vectors in bulk: a table of texts in the store -> vectors, ids and named columns in Parquet, on Ray Data.

``table`` finds, checks and reads the files, ``embed_part`` embeds one range of rows, ``embed`` is the job. Nothing is imported
here: a dry run needs neither torch nor ray.
"""
