"""What the shop sells and shows: pages, products, videos, search phrases."""

from functools import cache

import numpy as np
import polars as pl

from privacy_platform.synthetic import pools
from privacy_platform.synthetic.draw import F64, I64

PRODUCTS = 1_000
VIDEOS = 240

STATIC_PAGES = (
    "/", "/products", "/deals", "/new", "/cart", "/account", "/help", "/about", "/blog", "/blog/care-guide",
    "/category/outdoor", "/category/kitchen", "/category/electronics", "/category/garden", "/category/shoes",
    "/category/toys", "/category/office", "/category/sports",
)  # fmt: skip
STATIC_WEIGHTS = (20, 12, 8, 6, 7, 6, 3, 2, 4, 3, 6, 6, 7, 4, 6, 4, 3, 5)
SEARCH, LOGIN, LOGOUT, SIGNUP, CHECKOUT = (len(STATIC_PAGES) + k for k in range(5))
FIRST_PRODUCT_PAGE = CHECKOUT + 1
FIRST_VIDEO_PAGE = FIRST_PRODUCT_PAGE + PRODUCTS

PRODUCT_IDS = pl.Series([f"prod_{n:04d}" for n in range(1, PRODUCTS + 1)])
VIDEO_IDS = pl.Series([f"vid_{n:04d}" for n in range(1, VIDEOS + 1)])
PAGES = pl.concat([
    pl.Series([*STATIC_PAGES, "/search", "/login", "/logout", "/signup", "/checkout"]),
    "/products/" + PRODUCT_IDS,
    "/videos/" + VIDEO_IDS,
])  # fmt: skip

EXTERNAL_REFERRERS: tuple[tuple[str | None, float], ...] = (
    (None, 38), ("https://www.google.com/", 30), ("https://www.bing.com/", 6), ("https://duckduckgo.com/", 4),
    ("https://www.facebook.com/", 7), ("https://www.instagram.com/", 6), ("https://www.youtube.com/", 4),
    ("https://news.example.org/", 3), ("https://mail.example.net/newsletter", 2),
)  # fmt: skip
REFERRERS = pl.concat([pl.Series([url for url, _ in EXTERNAL_REFERRERS]), "https://shop.example.com" + PAGES])

DEVICES = pl.Series(["mobile", "desktop", "tablet"])
BROWSERS = pl.Series(["Chrome", "Safari", "Firefox", "Edge", "Samsung Internet", "Opera"])
BROWSER_WEIGHTS = ((50, 36, 4, 2, 7, 1), (62, 12, 10, 13, 0, 3), (40, 50, 3, 4, 3, 0))
"""Shares of the browsers on each device."""

_QUALITIES = (
    "cheap", "best", "small", "large", "lightweight", "waterproof", "wireless", "wooden", "organic",
    "vintage", "portable", "folding", "insulated", "rechargeable", "stainless",
    "kids", "quiet", "black", "blue", "red",
)  # fmt: skip
_THINGS = (
    "running shoes", "water bottle", "desk lamp", "coffee grinder", "headphones", "backpack", "tent",
    "garden hose", "yoga mat", "office chair", "phone case", "keyboard", "rain jacket", "frying pan",
    "bicycle", "helmet", "blender", "notebook", "sunglasses", "suitcase", "speaker", "toaster",
    "gloves", "pillow",
    "umbrella", "board game", "sleeping bag", "watch strap", "kettle", "plant pot", "usb cable", "camera",
    "monitor", "sneakers", "hammock", "cutting board", "vacuum", "socks", "wallet", "puzzle",
)  # fmt: skip
_ENDINGS = ("", "", " sale", " under 50", " reviews", " size 42", " gift", " 2 pack")


@cache
def search_phrases() -> pl.Series:
    """Innocent search phrases: none has a word that is somebody's first or last name in the pools."""
    names = pools.names()
    taken = {word for series in (names.first, names.last, names.first_ascii, names.last_ascii)
             for name in series.unique().to_list() for word in name.casefold().split()}  # fmt: skip
    phrases = (f"{q} {t}{e}" for t in _THINGS for q in ("", *_QUALITIES) for e in _ENDINGS)
    kept = dict.fromkeys(p.strip() for p in phrases if taken.isdisjoint(p.split()))
    return pl.Series(list(kept))


@cache
def prices() -> F64:
    """The price of each product."""
    rng = np.random.Generator(np.random.PCG64(20_260_630))
    whole = np.round(np.exp(rng.normal(3.3, 0.9, PRODUCTS)).clip(2, 1_500))
    return np.asarray(np.round(whole + rng.choice([-0.01, -0.05, 0.5], PRODUCTS), 2))


@cache
def video_seconds() -> I64:
    """The length of each video."""
    rng = np.random.Generator(np.random.PCG64(20_260_701))
    return np.asarray(np.exp(rng.normal(5.2, 0.8, VIDEOS)).clip(20, 3_600).astype(np.int64))
