"""HTTP routes, one module for each API or family of routes: handlers with their bodies, answers and examples."""
