"""Result cards. An installed package carries this folder as `advcl_nb._results`."""
