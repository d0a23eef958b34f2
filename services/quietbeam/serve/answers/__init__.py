"""Every JSON answer of the API as a pydantic model: what OpenAPI documents is what is sent."""
