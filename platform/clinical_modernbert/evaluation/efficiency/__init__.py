"""Figure 3: seconds to embed texts."""
