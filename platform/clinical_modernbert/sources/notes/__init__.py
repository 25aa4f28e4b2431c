"""Hospital data: notes (MIMIC, tables) and events (MEDS)."""
