"""Write the word lists that the detector's value path looks values up in: names of people, places and countries.

    python scripts/detection_words.py

The sources are packages the project depends on anyway: the locale providers of Faker (MIT) for names of people,
cities, regions and countries, and the geographic data of phonenumbers (Apache-2.0) for cities of the world. The result,
`privacy_platform/detection/data/words.txt.gz`, is the same for the same versions of both.
"""

import gzip
import importlib
import pkgutil
import re
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import faker.providers.address
import faker.providers.person
import pytz
from phonenumbers.geodata import GEOCODE_DATA

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from privacy_platform.detection.text import normal, romanized

TARGET = Path(__file__).resolve().parent.parent / "privacy_platform/detection/data/words.txt.gz"
CITIES = (
    "cities", "city_names", "real_city_names", "municipalities", "communes", "concelhos", "towns",
    "metropolitan_cities",    "province_lgus", "metro_manila_lgus", "wilayas",
)  # fmt: skip
REGIONS = (
    "states", "provinces", "regions", "departments", "cantons", "counties", "prefectures", "estados", "distritos",
    "region_names", "region_oblast", "region_krai", "region_republics", "union_territories", "districts",
)  # fmt: skip
ROMANIZED = {
    # Frequent family names that Faker has in native script only.
    "last": """kumar patel devi sharma singh gupta verma yadav reddy rao nair iyer khan mehta joshi shah das ghosh
        mukherjee banerjee chatterjee mishra pandey tiwari chauhan malik hussain begum agarwal jain kapoor
        chopra okafor adeyemi mensah diallo traore keita mbeki dlamini nkosi wang li zhang liu chen yang
        huang zhao wu zhou xu sun ma zhu hu guo he lin gao luo zheng liang xie song tang han feng deng cao
        peng zeng xiao tian dong yuan pan cai jiang yu du ye cheng wei su lu ding ren shen yao cui zhong
        tan wong chan cheung leung lau chow ho ng kwok chiu tsai kuo hsu hsieh kim lee park choi jung
        jeong kang cho yoon jang lim shin seo kwon hwang ahn ryu hong nguyen tran pham hoang huynh phan vu
        vo dang bui do ngo duong""",
    "first": """rajesh suresh ramesh mahesh amit anil sunil sanjay vijay ajay ravi rahul deepak vikas manish arjun priya
        pooja neha anjali kavita sunita rekha meena lakshmi sneha divya swati nisha ashok vinod rakesh
        mukesh seoyeon jihoon yuna hoseok hyunwoo minji jiyoung sunghoon kyungsoo eunji hyejin jinwoo
        sangwoo wei fang min jing lei ming hua jun yan xin yang hui ping hong lan bin bo tao chao xiaoming
        jia jie mei ling minjun seojun jiwoo jiho haruto sota yuki hiroshi takashi kenji akira yuto haruka
        sakura yoko keiko naoko linh thanh hieu trang thuy phuong anh tuan dung minh nam long quang
        mohammed muhammad mohamed mohammad mohamad ahmed ahmad mahmoud mustafa ali hassan hussein fatima
        aisha khadija omar yusuf youssef ibrahim abdullah abdul khalid""",
}


def _modules(package: ModuleType) -> Iterator[Any]:
    for module in sorted(pkgutil.iter_modules(package.__path__), key=lambda m: m.name):
        yield importlib.import_module(f"{package.__name__}.{module.name}").Provider


def _texts(values: Any) -> Iterator[str]:
    for value in values:
        if isinstance(value, str):
            yield value
        elif isinstance(value, tuple | list):
            yield from (part for part in value if isinstance(part, str))


def _people(provider: Any) -> Iterator[tuple[str, Any]]:
    for attribute in dir(provider):
        values = getattr(provider, attribute)
        kind = "first" if "first" in attribute else "last" if "last" in attribute else ""
        if kind and "format" not in attribute and isinstance(values, list | tuple | dict):
            yield kind, values


def collect() -> dict[str, set[str]]:
    """Normal forms of the words, by list."""
    words: dict[str, set[str]] = defaultdict(set)
    for provider in _modules(faker.providers.person):
        for kind, values in _people(provider):
            words[kind].update(_texts(values))
    for provider in _modules(faker.providers.address):
        for kind, names in (("city", CITIES), ("region", REGIONS), ("country", ("countries",))):
            for name in names:
                values = getattr(provider, name, ())
                words[kind].update(_texts(values))
    areas = (descriptions.get("en", "") for descriptions in GEOCODE_DATA.values())
    words["city"].update(re.split(r"[,/]|\s-\s", area)[0] for area in areas)
    words["country"].update(pytz.country_names.values())
    words["city"].update(zone.split("/")[-1].replace("_", " ") for zone in pytz.common_timezones if "/" in zone)
    for kind, more in ROMANIZED.items():
        words[kind].update(more.split())
    result = {kind: {normal(word) for word in found} for kind, found in words.items()}
    for kind in ("first", "last", "city"):
        result[kind] |= {romanized(word) for word in result[kind]}
    return {kind: {w for w in found if _usable(w)} for kind, found in result.items()}


def _usable(word: str) -> bool:
    return len(word) >= (2 if word.isascii() else 1) and len(word) <= 40 and not re.search(r"\d|[{}()]", word)


def main() -> None:
    """Collect and write."""
    lines = [f"{kind}\t{word}" for kind, found in sorted(collect().items()) for word in sorted(found)]
    TARGET.parent.mkdir(exist_ok=True)
    with TARGET.open("wb") as file, gzip.GzipFile(fileobj=file, mode="wb", mtime=0, filename="") as packed:
        packed.write("\n".join(lines).encode())
    print(f"{len(lines):,} words, {TARGET.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
