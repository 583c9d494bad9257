"""The engine: preprocessing, embedding, scoring, the metric. No HTTP, no training, no globals."""
