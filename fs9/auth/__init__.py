"""Who is asking: tokens, and the verifier that turns one into a principal."""
