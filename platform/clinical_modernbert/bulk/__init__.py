"""Vectors in bulk: a table of texts in the store -> vectors, ids and named columns in Parquet, on Ray Data.

``inputs`` finds and checks the files, ``rows`` reads them, ``parts`` embeds one part, ``embed`` is the job. Nothing is imported
here: a dry run needs neither torch nor ray.
"""
