"""Figure 2 and the ICD map: embeddings of codes, their neighbours and their places on a map."""
