"""The surrogate model of accuracy, and the candidates it proposes."""
