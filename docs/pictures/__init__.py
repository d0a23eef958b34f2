"""Scripts that make the pictures of the documentation. ``python -m docs.pictures`` runs them."""
