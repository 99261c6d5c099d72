"""What surrounds the networks: loading, conditioning, guidance, sampling. Knows no plan, no page and no user."""
