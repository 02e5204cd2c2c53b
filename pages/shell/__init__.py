"""What pages share.

Streamlit takes a folder named `pages` for its older kind of app until `st.navigation` has been called once in the
server's life: the first request would run a page without `app.py`. Whatever runs first imports this package, and
is run once more, by the router.
"""

import logging
import os

import streamlit as st
from streamlit.runtime.pages_manager import PagesManager

from pages.shell.failures import UNCAUGHT, WithoutMessages

# As for the command line: what pages write holds texts that are nobody else's business, temporary files included.
os.umask(0o077)
_uncaught = logging.getLogger(UNCAUGHT)
if not any(isinstance(each, WithoutMessages) for each in _uncaught.filters):
    _uncaught.addFilter(WithoutMessages())
if PagesManager.uses_pages_directory:
    PagesManager.uses_pages_directory = False
    st.rerun()
