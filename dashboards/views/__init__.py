"""The pages of the explorer, one module each, and what they share: ``reading`` (the store) and ``figure`` (the map)."""
