"""Asks DuckDB for everything that a page of `report` shows, over the same lakes, and compares it.

Arguments: a lake, the page's data as JSON and the page itself, then the next three. Prints how many values it compared.
"""

import datetime
import html.parser
import json
import pathlib
import sys

import duckdb

INVENTORY, VULNERABILITIES = "software_inventory", "software_vulnerabilities"
EXPLOITABLE = "ExploitabilityLevel IN ('ExploitIsPublic', 'ExploitIsVerified', 'ExploitIsInKit')"

# Each figure by table; rows without a CVE are no findings.
FIGURES = {
    "devices": "count(DISTINCT DeviceId)",
    "installations": "count(*)",
    "products": "count(DISTINCT (SoftwareVendor, SoftwareName))",
    "weaknesses": "coalesce(sum(NumberOfWeaknesses), 0)",
    "end_of_support": "count(*) FILTER (EndOfSupportStatus LIKE 'EOS%')",
    "vulnerabilities": "count(CveId)",
    "critical": "count(CveId) FILTER (VulnerabilitySeverityLevel = 'Critical')",
    "high": "count(CveId) FILTER (VulnerabilitySeverityLevel = 'High')",
    "exploitable": f"count(CveId) FILTER ({EXPLOITABLE})",
    "compliance_rate": "count(*) FILTER (IsApplicable AND NOT coalesce(NOT IsCompliant, false)) / nullif(count(*) FILTER (IsApplicable), 0)",
}

num_compared = 0


def same(found, expected, what):
    global num_compared
    num_compared += 1
    if isinstance(found, float) and isinstance(expected, float):
        assert abs(found - expected) < 1e-12, f"{what}: {found}, expected {expected}"
    else:
        assert found == expected, f"{what}: {found!r}, expected {expected!r}"


def number(value):
    (kind, number), = value.items()
    return number


class Lake:
    """The tables of a lake in DuckDB."""

    def __init__(self, path):
        self.connection = duckdb.connect()
        self.connection.execute("SET TimeZone = 'UTC'")
        for table in pathlib.Path(path).iterdir():
            if table.name.startswith("_"):
                continue
            types = "{'snapshot_date': DATE" + (", 'OSPlatform': VARCHAR}" if list(table.glob("*/OSPlatform=*")) else "}")
            self.connection.execute(
                f"CREATE VIEW {table.name} AS FROM read_parquet('{table}/**/*.parquet', union_by_name = true, "
                f"hive_partitioning = true, hive_types = {types})"
            )

    def rows(self, select, table, date, group="", where="true"):
        group = f"GROUP BY {group}" if group else ""
        sql = f"SELECT {select} FROM {table} WHERE snapshot_date = DATE '{date}' AND {where} {group}"
        return self.connection.execute(sql).fetchall()

    def value(self, select, table, date, where="true"):
        return self.rows(select, table, date, where=where)[0][0]


def check_figures(lake, page, written):
    for figure in page["figures"]:
        name, sql = figure["name"], FIGURES[figure["name"]]
        on = lambda date: lake.value(sql, figure["dataset"], date)
        same(number(figure["value"]), on(figure["date"]), name)
        value = number(figure["value"])
        same(written.pop(name) == "" if value is None else float(written.pop(name)) == value, True, f"{name} as written")
        points = figure["series"] + [point for point in (figure["before"], figure["month_before"]) if point]
        for point in points:
            same(number(point["value"]), on(point["date"]), f"{name} of {point['date']}")
        dates = [row[0] for row in lake.connection.execute(f"SELECT DISTINCT snapshot_date FROM {figure['dataset']} ORDER BY 1").fetchall()]
        today = datetime.date.fromisoformat(figure["date"])
        same([point["date"] for point in figure["series"]], [str(date) for date in dates if date <= today], f"days of {name}")
        before = [date for date in dates if date < today]
        same(figure["before"] and figure["before"]["date"], str(before[-1]) if before else None, f"{name} before")
        month = [date for date in before if (today - date).days >= 30]
        same(figure["month_before"] and figure["month_before"]["date"], str(month[-1]) if month else None, f"{name} a month before")
    same(written, {}, "figures as written and in the data")


def check_breakdown(lake, page, section, column):
    breakdown = page[section]
    for index, figure in enumerate(breakdown["figures"]):
        date = next(facts["date"] for facts in page["head"]["datasets"] if facts["dataset"] == figure["dataset"])
        rows = dict(lake.rows(f"{column}, {FIGURES[figure['name']]}", figure["dataset"], date, column))
        found = {row["value"]: number(row["figures"][index]) for row in breakdown["rows"] if row["figures"][index]}
        same(found.keys(), rows.keys(), f"{section} of {figure['name']}")
        for value, count in rows.items():
            same(found[value], count, f"{section} {value} {figure['name']}")
        assert breakdown["left_out"] == 0


def check_support(lake, table, date, support):
    ended = "EndOfSupportStatus LIKE 'EOS%'"
    same(support["devices"], lake.value("count(DISTINCT DeviceId)", table, date, ended), "devices out of support")
    same(support["installations"], lake.value("count(*)", table, date, ended), "out of support")
    group = "SoftwareVendor, SoftwareName, SoftwareVersion, EndOfSupportStatus, EndOfSupportDate"
    until = f"EndOfSupportDate BETWEEN DATE '{date}' AND DATE '{date}' + 180"
    for name, where in (("ended", ended), ("ending", f"NOT coalesce({ended}, false) AND {until}")):
        rows = lake.rows(f"{group}, count(DISTINCT DeviceId), count(*)", table, date, group, where)
        rows = {row[:5]: row[5:] for row in rows}
        same(len(support[name]) + support[f"{name}_left_out"], len(rows), f"versions {name}")
        for version in support[name]:
            day = version["date"] and datetime.date.fromisoformat(version["date"])
            found = (version["devices"], version["installations"])
            same(found, rows[(*version["name"], version["version"], version["status"], day)], f"{name} {version}")
    least_listed = min((version["devices"] for version in support["ended"]), default=0)
    assert support["ended"] == sorted(support["ended"], key=lambda version: -version["devices"]), least_listed
    assert support["ending"] == sorted(support["ending"], key=lambda version: version["date"])


def check_products(lake, products):
    table = products["dataset"]
    date = products["date"]
    name = "SoftwareVendor, SoftwareName"
    inventory = table == INVENTORY
    more = ", coalesce(sum(NumberOfWeaknesses), 0), count(*) FILTER (EndOfSupportStatus LIKE 'EOS%')" if inventory else ", 0, 0"
    rows = lake.rows(f"{name}, count(DISTINCT DeviceId), count(*), count(DISTINCT SoftwareVersion) {more}", table, date, name)
    rows = {row[:2]: row[2:] for row in rows}
    by = {}
    for column, section in (("SoftwareVersion", "versions"), ("OSPlatform", "platforms"), ("RbacGroupName", "groups")):
        by[section] = {row[:3]: row[3] for row in lake.rows(f"{name}, {column}, count(DISTINCT DeviceId)", table, date, f"{name}, {column}")}
    same(products["num_products"], len(rows), f"products of {table}")
    same(len(products["products"]) + products["left_out"], len(rows), f"products listed of {table}")
    for product in products["products"]:
        key = tuple(product["name"])
        found = tuple(product[column] for column in ("devices", "installations", "num_versions", "weaknesses", "ended"))
        same(found, rows[key], f"{table} {key}")
        detail = product["detail"]
        for version, devices in detail["versions"] if detail else ():
            same(devices, by["versions"][(*key, version)], f"{table} {key} {version}")
        for section in ("platforms", "groups"):
            for position, devices in detail[section] if detail else ():
                same(devices, by[section][(*key, products[section][position])], f"{table} {key} {section}")
    devices = [product["devices"] for product in products["products"]]
    assert devices == sorted(devices, reverse=True)


def check_exposure(lake, exposure):
    table, date = exposure["dataset"], exposure["date"]
    found = "CveId IS NOT NULL"
    severities, levels = exposure["severities"], exposure["exploitabilities"]
    rows = lake.rows("VulnerabilitySeverityLevel, ExploitabilityLevel, count(*)", table, date, "ALL", found)
    matrix = {(severity, level): count for severity, level, count in rows}
    for row, severity in enumerate(severities):
        for column, level in enumerate(levels):
            same(exposure["matrix"][row][column], matrix.get((severity, level), 0), f"{severity} {level}")
    known = [severity for severity in ("Critical", "High", "Medium", "Low") if severity in severities]
    same(severities[: len(known)], known, "severities in their order")
    for level, is_exploitable in zip(levels, exposure["is_exploitable"]):
        same(is_exploitable, level in ("ExploitIsPublic", "ExploitIsVerified", "ExploitIsInKit"), level)

    rows = lake.rows(
        "CveId, count(DISTINCT DeviceId), count(*), count(*) FILTER (SecurityUpdateAvailable), max(CvssScore), "
        "list(DISTINCT VulnerabilitySeverityLevel), list(DISTINCT ExploitabilityLevel)",
        table, date, "CveId", found,
    )
    same(exposure["num_cves"], len(rows), "cves")
    rows = {row[0]: row[1:] for row in rows}
    for cve in exposure["cves"]:
        devices, findings, updates, score, of_severity, of_level = rows[cve["id"]]
        found_counts = (cve["devices"], cve["findings"], cve["findings_with_update"], cve["score"])
        same(found_counts, (devices, findings, updates, score), cve["id"])
        same(cve["severity"], min(map(severities.index, of_severity)), f"severity of {cve['id']}")
        same(cve["exploitability"], min(map(levels.index, of_level)), f"exploitability of {cve['id']}")
    most = sorted((row[0] for row in rows.values()), reverse=True)
    same([cve["devices"] for cve in exposure["cves"]], most[: len(exposure["cves"])], "cves on most devices")

    days = "floor(epoch_us(GeneratedTime - FirstSeenTimestamp) / 86400e6)"
    ages = lake.rows(f"VulnerabilitySeverityLevel, {days}, count(*)", table, date, "ALL", found)
    for bucket in exposure["ages"]:
        first, last = bucket["from_days"], bucket["to_days"]
        for position, severity in enumerate(severities):
            def counts(age):
                if age is None or first is None:
                    return age is None and first is None
                return max(age, 0) >= first and (last is None or age <= last)
            expected = sum(count for of, age, count in ages if of == severity and counts(age))
            same(bucket["by_severity"][position], expected, f"{severity} of {first} to {last} days")

    name = "SoftwareVendor, SoftwareName"
    rows = lake.rows(
        f"{name}, count(*), count(*) FILTER (VulnerabilitySeverityLevel = 'Critical'), count(*) FILTER ({EXPLOITABLE}), "
        "count(DISTINCT CveId), count(DISTINCT DeviceId), count(*) FILTER (SecurityUpdateAvailable)",
        table, date, name, found,
    )
    same(exposure["num_products"], len(rows), "products with findings")
    rows = {row[:2]: row[2:] for row in rows}
    for product in exposure["products"]:
        counts = ("findings", "critical", "exploitable", "cves", "devices", "findings_with_update")
        same(tuple(product[count] for count in counts), rows[tuple(product["name"])], product["name"])
    most = sorted((row[0] for row in rows.values()), reverse=True)
    same([product["findings"] for product in exposure["products"]], most[: len(exposure["products"])], "products with most")


def check_expiries(lake, expiries):
    table, date = expiries["dataset"], expiries["date"]
    same(expiries["expired"], lake.value("count(*)", table, date, "ExpirationDate < GeneratedTime"), "expired")
    where = "ExpirationDate >= GeneratedTime AND ExpirationDate < GeneratedTime + INTERVAL 90 DAYS"
    rows = lake.rows("Thumbprint, min(ExpirationDate), count(DISTINCT DeviceId)", table, date, "Thumbprint", where)
    same(len(expiries["items"]) + expiries["left_out"], len(rows), "certificates that expire")
    rows = {row[0]: row[1:] for row in rows}
    for item in expiries["items"]:
        found = (datetime.datetime.fromisoformat(item["expires"]), item["devices"])
        same(found, rows[item["id"]], item["id"])
    assert expiries["items"] == sorted(expiries["items"], key=lambda item: item["expires"])


def check_risks(lake, risks):
    table, date = risks["dataset"], risks["date"]
    where = "ExtensionRisk IN ('High', 'Critical')"
    same(risks["rows"], lake.value("count(*)", table, date, where), "rows of high risk")
    group = "ExtensionId, BrowserName, ExtensionRisk"
    active = "count(DISTINCT DeviceId) FILTER (IsActivated)"
    rows = lake.rows(f"{group}, count(DISTINCT DeviceId), {active}, max(ExtensionName)", table, date, group, where)
    same(len(risks["items"]) + risks["left_out"], len(rows), "extensions of high risk")
    rows = {row[:3]: row[3:] for row in rows}
    for item in risks["items"]:
        found = (item["devices"], item["active_devices"], item["name"])
        same(found, rows[(item["id"], item["place"], item["risk"])], item["id"])


def check_devices(lake, devices, date):
    table = devices["dataset"]
    counted = "count(CveId)" if devices["counted"] == "findings" else "sum(NumberOfWeaknesses)"
    rows = lake.rows(f"max(DeviceName), max(OSPlatform), max(RbacGroupName), {counted}", table, date, "DeviceId")
    rows.sort(key=lambda row: -row[3])
    listed = [(device["name"], device["platform"], device["group"], device["findings"]) for device in devices["devices"]]
    same([row[3] for row in listed], [row[3] for row in rows[: len(listed)]], "devices with most findings")
    for device in listed:
        assert device in rows, device


class Written(html.parser.HTMLParser):
    """The figures that stand in the page as written."""

    def __init__(self):
        super().__init__()
        self.figures = {}

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        name = attributes.get("data-figure")
        if tag == "data" and name:
            assert self.figures.setdefault(name, attributes["value"]) == attributes["value"], name


def check(path, page, text):
    lake = Lake(path)
    written = Written()
    written.feed(text)
    dates = {facts["dataset"]: facts["date"] for facts in page["head"]["datasets"]}
    for facts in page["head"]["datasets"]:
        same(facts["rows"], lake.value("count(*)", facts["dataset"], facts["date"]), f"rows of {facts['dataset']}")
    check_figures(lake, page, written.figures)
    check_breakdown(lake, page, "platforms", "OSPlatform")
    check_breakdown(lake, page, "groups", "RbacGroupName")
    for support in page["support"]:
        check_support(lake, support["dataset"], dates[support["dataset"]], support)
    dated = lambda section: [item | {"date": dates[item["dataset"]]} for item in page[section]]
    for section, check_section in (
        ("products", check_products),
        ("exposure", check_exposure),
        ("expiries", check_expiries),
        ("risks", check_risks),
    ):
        for item in dated(section):
            check_section(lake, item)
    if page["devices"]:
        check_devices(lake, page["devices"], dates[page["devices"]["dataset"]])


def main():
    arguments = sys.argv[1:]
    for path, data, page in zip(arguments[::3], arguments[1::3], arguments[2::3]):
        check(path, json.loads(pathlib.Path(data).read_text()), pathlib.Path(page).read_text())
    print(f"{len(arguments) // 3} pages, {num_compared} values")


if __name__ == "__main__":
    main()
