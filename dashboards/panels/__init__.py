"""What pages are put together from: the map, charts, tables, search, selection and exports."""
