"""What stands behind a table's state and behind its view, for those who know who loaded them."""

from pyiceberg.table import Table

from k2i_core.iceberg.gateway import TableView
from k2i_core.records import TableState


def view_of(state: TableState) -> TableView:
    """Return what the state was read from."""
    assert isinstance(state.view, TableView)
    return state.view


def table_of(view: TableView) -> Table:
    """Return what the view was loaded from, in PyIceberg's own form."""
    assert isinstance(view.handle, Table)
    return view.handle
