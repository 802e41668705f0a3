"""A Progressive Transformer, text to pose frame by frame (Saunders et al. 2020)."""
