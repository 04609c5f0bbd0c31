"""The Hugging Face hub, asked once before a library that would try, and complain, for half a minute or more."""

PATIENCE = 5.0  # seconds for its first answer


def reach_hub(name: str) -> None:
    """Raise an OSError when the hub is out of reach. A hub that knows no such model is left to the library's words."""
    from huggingface_hub import model_info

    try:
        model_info(name, timeout=PATIENCE)
    except (OSError, ValueError):
        pass  # the hub said no, or is not to be asked: the library says why
    except Exception as error:  # of the HTTP library, which differs from version to version
        raise OSError(f"the hub is out of reach: {error}") from error
