"""Small trained encoders. An installed package carries this folder as `advcl_nb._checkpoints`."""
