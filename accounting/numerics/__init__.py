"""How it is computed: loss distributions, Renyi divergences, searches."""
