"""Figure 3: seconds for texts of a given length."""
