"""What the examples of a head say of it, from cached rows: checks and advice. Embeds and changes nothing."""
