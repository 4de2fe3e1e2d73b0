"""Writes the export parts of a tenant that is unlike the sample tenant, for `make bench`.

The wire form is the same, what it holds is not, so that nothing is measured only on data that the program was made with:
Linux servers and macOS first, packages, bundles, jars in forty places, registry hives, shares, paths with hashes, versions of
many styles, lists of none to forty, 3 to 3,000 rows a device, and members in the order of the documentation.
One seed and size give the same records. Uses nothing of this project.
"""

import argparse
import functools
import gzip
import itertools
import multiprocessing
import pathlib
import random
import time

FOLDER = "tvm-export/2024-06-03/0200/SoftwareInventory/json/OrgId=5f0c7e2a-93d1-4b58-8a6e-2d4b917c3e08"
NOW = 1_717_380_000
DAY = 86_400
LEVEL = 6
# Rows that are compressed at a time.
BLOCK = 1000

SYLLABLES = (
    "ka lo mi ter vex dra sol qui nar pel zo fi gra hum ji bren tok wyl ost ul crim dae ph eno sta ri bo cla yr ne mon tes "
    "ab und er ix ola par su ven"
).split()
WORDS = (
    "agent runtime sync editor studio server client driver helper toolkit viewer manager gateway monitor backup codec shell "
    "parser logger cache router scheduler compiler debugger updater proxy vault canvas player recorder"
).split()
SERVICES = "billing ledger search-index checkout identity-broker telemetry image-resizer inventory pricing mail-relay".split()
NAMES = "anna bjørn chidi dewi elif farid gülşen hiroshi inês jakub kwame lucía mei niamh oksana priya rafał søren tāne yusuf".split()

# kind of product: where its files are, most common first, and its keys in the registry. As JSON spells them; %(…)s is filled in
# for each record, %% for each release.
PATHS = {
    "package": (
        ["/usr/bin/%%(name)s", "/usr/lib/x86_64-linux-gnu/lib%%(name)s.so.%%(version)s", "/usr/share/doc/%%(name)s/copyright",
         "/opt/%%(vendor)s/%%(name)s/%%(version)s/bin/%%(name)s", "/snap/%%(name)s/%%(number)s/usr/bin/%%(name)s",
         "/var/lib/docker/overlay2/%(hash)s/diff/usr/bin/%%(name)s", "/nix/store/%%(hash)s-%%(name)s-%%(version)s/bin/%%(name)s"],
        [],
    ),
    "jar": (
        ["/srv/%(service)s/releases/%(number)s/WEB-INF/lib/%%(name)s-%%(version)s.jar",
         "%(home)s/.m2/repository/org/%%(vendor)s/%%(name)s/%%(version)s/%%(name)s-%%(version)s.jar",
         "/opt/tomcat/work/Catalina/localhost/%(service)s/loader/%(guid)s/lib/%%(name)s-%%(version)s.jar",
         "/var/lib/jenkins/workspace/%(service)s@%(number)s/build/libs/%%(name)s-%%(version)s-all.jar"],
        [],
    ),
    "module": (
        ["%(home)s/src/%(service)s/node_modules/%%(name)s/package.json",
         "%(home)s/src/%(service)s/packages/ui/node_modules/@%%(vendor)s/core/node_modules/%%(name)s/package.json",
         "/usr/local/lib/python3.11/site-packages/%%(name)s-%%(version)s.dist-info/METADATA"],
        [],
    ),
    "bundle": (
        ["/Applications/%%(title)s.app", "%(home)s/Applications/%%(title)s.app/Contents/MacOS/%%(title)s",
         "%(home)s/Library/Application Support/%%(vendor)s/%%(title)s/%(guid)s/%%(version)s/helper",
         "/Library/PrivilegedHelperTools/com.%%(vendor)s.%%(name)s", "/opt/homebrew/Cellar/%%(name)s/%%(version)s/bin/%%(name)s",
         "/private/var/folders/%(short)s/T/AppTranslocation/%(guid)s/d/%%(title)s.app"],
        [],
    ),
    "program": (
        [r"D:\\Apps\\%%(vendor)s\\%%(title)s\\%%(version)s\\x64\\%%(name)s.exe",
         r"C:\\Users\\%(user)s\\AppData\\Local\\%%(vendor)s\\app-%%(version)s\\%%(name)s.exe",
         r"\\\\fs%(digit)s.corp.example.net\\software$\\%%(title)s\\%%(version)s\\%%(name)s.exe",
         r"C:\\Windows\\WinSxS\\amd64_%%(name)s_%%(short)s_%%(version)s_none_%(short)s\\%%(name)s.dll",
         r"C:\\Users\\%(user)s\\AppData\\Roaming\\%%(vendor)s\\{%(guid)s}\\%%(name)s.exe"],
        [r"HKEY_LOCAL_MACHINE\\SOFTWARE\\Classes\\Installer\\Products\\%%(hash)s",
         r"HKEY_USERS\\%(sid)s\\Software\\%%(vendor)s\\%%(title)s\\%%(version)s\\Capabilities",
         r"HKEY_LOCAL_MACHINE\\SYSTEM\\CurrentControlSet\\Services\\%%(name)s",
         r"HKEY_CURRENT_USER\\Software\\Microsoft\\Installer\\Features\\%(hash)s"],
    ),
    "store": (
        [r"C:\\Program Files\\WindowsApps\\%%(title)s_%%(version)s_x64__%%(short)s\\%%(name)s.exe"],
        [r"HKEY_LOCAL_MACHINE\\SOFTWARE\\Microsoft\\Windows\\CurrentVersion\\Appx\\AppxAllUserStore\\Applications\\"
         r"%%(title)s_%%(version)s_x64__%%(short)s"],
    ),
    "app": ([], []),
}
# How many paths a record has, by kind of product; None is an omitted list.
SEVERAL = [0] * 10 + [1] * 28 + [2] * 7 + [3] * 2 + [4, 5, 7, None]
COUNTS = dict.fromkeys(PATHS, SEVERAL) | {
    "jar": [1] * 60 + [2] * 20 + [3] * 10 + [4, 4, 5, 6, 7, 9, 12, 17, 25, 40],
    "store": [1],
    "app": [0, None],
}
KEYS = [0] * 30 + [1] * 50 + [2] * 12 + [3, 3, 4, 5, 8, 13, 21, None]

# Platform, weight, kinds of products, how many products it knows, typical rows.
PLATFORMS = [
    ("Linux", 40, ["package", "package", "package", "jar", "module"], 1800, 42),
    ("macOS", 22, ["bundle", "bundle", "module"], 900, 34),
    ("WindowsServer2019", 9, ["program", "program", "store"], 600, 24),
    ("WindowsServer2022", 8, ["program"], 600, 24),
    ("Windows10", 7, ["program", "program", "store"], 900, 38),
    ("Windows11", 5, ["program", "store"], 900, 38),
    ("iOS", 3, ["app"], 400, 20),
    ("Android", 3, ["app"], 400, 30),
    ("WindowsServer2012R2", 1, ["program"], 250, 12),
    (None, 2, ["app"], 90, 6),
]
# Devices made from one image have most of their software in common.
IMAGES = 25


def word(dice, least, most):
    return "".join(dice.choices(SYLLABLES, k=dice.randint(least, most)))


def version(dice, style):
    def number(below):
        return int(below * dice.random() ** 3)

    if style == "semantic":
        return f"{number(30)}.{number(40)}.{number(20)}"
    if style == "five parts":
        return f"{number(20)}.{number(9)}.{number(3000)}.{number(60000)}.{number(9)}"
    if style == "day":
        return f"20{dice.randint(18, 24)}.{dice.randint(1, 12):02}.{dice.randint(1, 28):02}"
    if style == "hash":
        return f"0.0.0-20{dice.randint(20, 24)}{dice.randint(1, 12):02}{dice.randint(1, 28):02}-{dice.getrandbits(48):012x}"
    if style == "debian":
        return f"{dice.randint(1, 3)}:{number(12)}.{number(30)}.{number(9)}+dfsg-{number(9)}ubuntu{number(4)}.{number(20)}"
    return f"{number(120)}"


STYLES = ["semantic", "semantic", "five parts", "day", "hash", "debian", "number"]


def releases_of(dice, kind, vendor, rank):
    """Returns what records of each release of one product say, with places for what a device adds."""
    name = word(dice, 2, 4) + dice.choice(["", "", "-" + dice.choice(WORDS), "_" + dice.choice(WORDS)])
    title = f"{word(dice, 2, 3).title()} {dice.choice(WORDS).title()}" + dice.choice(["", "", "", " für Büro", " ®"])
    style, places, keys = dice.choice(STYLES), *PATHS[kind]
    releases = []
    for _ in range(1 + int(30 * dice.random() ** 4)):
        release = {
            "name": name, "title": title, "vendor": vendor, "version": version(dice, style), "number": dice.randint(10, 4000),
            "hash": f"{dice.getrandbits(128):032X}", "short": f"{dice.getrandbits(64):016x}",
        }

        def filled(templates, most):
            # The places of `%(…)s` stay, those of `%%(…)s` are of the release.
            order = sorted(range(len(templates)), key=lambda index: index + 4 * dice.random())
            texts = [f'"{templates[index]}"'.replace("%(", "\0(").replace("%\0(", "%(") % release for index in order]
            # Only what differs on each device can be on one of them many times.
            again = itertools.cycle([text for text in texts if "\0(" in text])
            return [text.replace("\0(", "%(") for text in itertools.islice(itertools.chain(texts, again), most)]

        status = dice.choice(["EOS Version", "Upcoming EOS Version", "EOS Software"]) if dice.random() < 0.12 else "None"
        day = time.strftime("%Y-%m-%d", time.gmtime(NOW + dice.randint(-900, 700) * DAY))
        middle = f'"EndOfSupportDate":"{day}T00:00:00+00:00",' if status != "None" and dice.random() < 0.8 else ""
        middle += f'"EndOfSupportStatus":"{status}",' if dice.random() < 0.98 else ""
        middle += f'"NumberOfWeaknesses":{int(400 * dice.random() ** 12)},'
        last = f'"SoftwareName":"{name}","SoftwareVendor":"{vendor}"'
        last += f',"SoftwareVersion":"{release["version"]}"}}\n' if dice.random() < 0.97 else "}\n"
        releases.append((1 / (rank + 20), middle, last, filled(places, max(filter(None, COUNTS[kind]), default=0)),
                         filled(keys, max(filter(None, KEYS))), COUNTS[kind]))
    return releases


@functools.cache
def catalogue(seed):
    """Returns for each platform its releases, their summed weights, and its images."""
    dice = random.Random(f"{seed} catalogue")
    vendors = list(dict.fromkeys(word(dice, 2, 3) + dice.choice(["", "", "_" + dice.choice(WORDS)]) for _ in range(700)))
    known = {}
    for platform, _, kinds, num_products, _ in PLATFORMS:
        releases = []
        for rank in range(num_products):
            # Rank by chance: vendors with many products are not those with the common ones.
            vendor = vendors[int(len(vendors) * dice.random() ** 2)]
            releases += releases_of(dice, dice.choice(kinds), vendor, rank)
        summed = list(itertools.accumulate(release[0] for release in releases))
        images = [
            (
                list({id(release): release for release in dice.choices(releases, cum_weights=summed, k=dice.randint(40, 900))}.values()),
                [dice.getrandbits(256) for _ in range(6)],
            )
            for _ in range(IMAGES)
        ]
        known[platform] = (releases, summed, images)
    return known


def paths(dice, templates, counts, slots):
    """Returns the JSON of a list, or None if it is to be omitted."""
    count = dice.choice(counts)
    if count is None:
        return None
    if not count:
        return "[]"
    found = templates[:count]
    for index, template in enumerate(found):
        if "%(" in template:
            # Layers and profiles come with the image mostly; else they are of this device, or of this record alone.
            bits = dice.choice(slots["known bits"]) if dice.random() < 0.96 else dice.getrandbits(256)
            slots["guid"] = f"{bits >> 128:032x}"
            slots["hash"] = f"{bits:064x}"
            slots["number"] = bits % 900
            slots["service"] = SERVICES[bits % len(SERVICES)]
            found[index] = template % slots
    return f"[{','.join(found)}]"


def device(dice, known, platforms, weights):
    """Returns the records of one device, each with its line feed."""
    platform, _, _, _, typical = dice.choices(platforms, cum_weights=weights)[0]
    releases, summed, images = known[platform]
    num_rows = min(max(int(typical * dice.lognormvariate(0, 1.25)), 3), 3000)
    image, layers = dice.choice(images)
    found = {id(release): release for release in dice.sample(image, min(len(image), num_rows * 3 // 4))}
    while len(found) < min(num_rows, len(releases) // 2):
        missing = num_rows - len(found)
        # The common ones are taken soon; the rest is by chance.
        more = dice.choices(releases, cum_weights=summed, k=missing) if len(found) < 400 else dice.choices(releases, k=missing)
        found |= {id(release): release for release in more}

    device_id, user = f"{dice.getrandbits(160):040x}", dice.choice(NAMES)
    user = user + dice.choice(["", f".{word(dice, 2, 3)}"])
    slots = {
        "known bits": [*layers, dice.getrandbits(256)],
        "user": user, "home": f"{'/home' if platform == 'Linux' else '/Users'}/{user}", "short": f"{dice.getrandbits(64):016x}", "digit": dice.randint(1, 9),
        "sid": f"S-1-12-1-{dice.getrandbits(32)}-{dice.getrandbits(31)}-{dice.getrandbits(32)}-{dice.getrandbits(32)}",
    }
    if platform is None:
        name = ""
    elif platform == "Linux":
        name = f"ip-10-{dice.randrange(40)}-{dice.randrange(256)}-{dice.randrange(256)}.eu-central-1.compute.internal"
    elif platform.startswith("Windows"):
        name = f"{dice.choice(['DESKTOP', 'WS', 'SRV'])}-{dice.getrandbits(32):07X}"
    else:
        name = f"{user}s-{platform}-{dice.randrange(4000)}.local"
    group = int(60 * dice.random() ** 2)
    first = f'{{"DeviceId":"{device_id}",' + (f'"DeviceName":"{name}",' if name else "")
    second = f'"OSPlatform":"{platform}",' if platform else ""
    if group < 55:
        second += f'"RbacGroupId":{2000 + 37 * group},"RbacGroupName":"Region {group // 8} / Team {group}",'
    made_at = NOW - int(1000 * DAY * dice.random() ** 2)
    made = f'"SoftwareFirstSeenTimestamp":"{time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(made_at))}",'

    records = []
    for _, middle, last, places, keys, counts in dice.sample(list(found.values()), len(found)):
        disk = paths(dice, places, counts, slots) if places else ("[]" if dice.random() < 0.5 else None)
        registry = paths(dice, keys, KEYS, slots) if keys else None
        seen = made
        if dice.random() < 0.4:
            at = made_at + int((NOW - made_at) * dice.random())
            seen = f'"SoftwareFirstSeenTimestamp":"{time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(at))}",'
        disk = f'"DiskPaths":{disk},' if disk else ""
        registry = f'"RegistryPaths":{registry},' if registry else ""
        records.append(f"{first}{disk}{middle}{second}{registry}{seen}{last}")
    return records


def write(work):
    """Writes one part; returns records and bytes of JSON."""
    seed, index, num_devices, folder = work
    known = catalogue(seed)
    dice = random.Random(f"{seed} part {index}")
    weights = list(itertools.accumulate(platform[1] for platform in PLATFORMS))
    num_records = num_bytes = 0
    records = []
    with open(folder / f"part-{index:05}-0b9d4c1e-77aa-4f0e-9c52-61d3a8e5f214.c000.json.gz", "wb") as file:
        with gzip.GzipFile("", "wb", LEVEL, file, mtime=0) as out:
            for number in range(num_devices):
                records += device(dice, known, PLATFORMS, weights)
                if len(records) >= BLOCK or number + 1 == num_devices:
                    text = "".join(records).encode()
                    out.write(text)
                    num_records += len(records)
                    num_bytes += len(text)
                    records.clear()
    return num_records, num_bytes


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--devices", type=int, default=17_500, help="number of devices, of 3 to 3,000 records (default: 17500)")
    arguments.add_argument("--parts", type=int, default=16, help="number of parts (default: 16)")
    arguments.add_argument("--seed", type=int, default=1, help="seed of the tenant; one seed and size give the same records")
    arguments.add_argument("--out", type=pathlib.Path, required=True, help="write below this folder")
    given = arguments.parse_args()

    folder = given.out / FOLDER
    folder.mkdir(parents=True)
    shares = [given.devices * (part + 1) // given.parts - given.devices * part // given.parts for part in range(given.parts)]
    with multiprocessing.Pool() as pool:
        work = [(given.seed, part, share, folder) for part, share in enumerate(shares)]
        written = pool.map(write, work, chunksize=1)
    num_bytes = sum(part.stat().st_size for part in folder.iterdir())
    print(f"records {sum(part[0] for part in written)}, parts {given.parts}, bytes {num_bytes}, "
          f"json bytes {sum(part[1] for part in written)}")


if __name__ == "__main__":
    main()
