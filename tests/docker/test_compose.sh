#!/usr/bin/env bash
# The container for real: built, started by compose on a free port, asked from this machine, looked into, taken down.
#
# Needs bash, docker (with compose), curl and python3's standard library. Uses a running engine, else one that
# ../shared/tools/docker-setup.sh starts (and stops again); without either it exits 3.
# MODEL_STORE names the folder of bundles (./model_store); its bundle `default` is served.
# shellcheck disable=SC2016 # what stands in single quotes is expanded inside the container
set -euo pipefail
cd "$(dirname "$0")/../.."

SETUP=../shared/tools/docker-setup.sh
PROJECT=jaguar-test-$$
WORK=$(mktemp -d)
PASSED=0
FAILED=0
ENGINE_IS_OURS=no

step() { printf '\n--- %s\n' "$*"; }

# check SENTENCE COMMAND...: counts it, and goes on after a failure.
check() {
    local sentence=$1 output
    shift
    if output=$("$@" 2>&1); then
        printf '  ok    %s\n' "$sentence"
        PASSED=$((PASSED + 1))
    else
        printf '  FAIL  %s\n%s\n' "$sentence" "$output"
        FAILED=$((FAILED + 1))
    fi
}

equals() { [ "$1" = "$2" ] || { printf 'got %s, expected %s\n' "$1" "$2"; return 1; }; }
differs() { [ -n "$1" ] && [ "$1" != "$2" ] || { printf 'got %s\n' "${1:-nothing}"; return 1; }; }
lacks() { ! grep -F -- "$2" "$1"; }
compose() { docker compose --env-file /dev/null --project-name "$PROJECT" "$@"; }
inside() { compose exec -T service "$@"; }
as_root() { compose exec -T --user 0 service "$@"; }
ask() { curl --silent --show-error --fail-with-body --noproxy '*' --max-time 120 "$@"; }

# What root is refused, the file system refuses: `refused FOLDER`.
refused() {
    local output
    if output=$(as_root touch "$1/written" 2>&1); then
        echo "$1 can be written to"
        return 1
    fi
    grep -q 'Read-only file system' <<<"$output" || { echo "$output"; return 1; }
}

finish() {
    local status=$?
    trap '' INT TERM
    if docker info >/dev/null 2>&1; then
        step "taking it down"
        compose down --volumes --remove-orphans --timeout 5 >/dev/null 2>&1 || true
        docker image rm "jaguar-reid:$PROJECT" >/dev/null 2>&1 || true
    fi
    rm -rf "$WORK"
    [ "$ENGINE_IS_OURS" = no ] || bash "$SETUP" down || true
    if [ "$status" -eq 0 ] || [ "$FAILED" -gt 0 ]; then
        echo "$PASSED passed, $FAILED failed"
    elif [ "$status" -ne 3 ]; then
        echo "$PASSED passed, then it broke off (exit $status)"
    fi
    exit "$status"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

no_engine() {
    echo "$1"
    exit 3
}

step "the engine"
if ! docker info >/dev/null 2>&1; then
    [ -f "$SETUP" ] || no_engine "No container engine is running, and there is no $SETUP to start one."
    ENGINE_IS_OURS=yes
    bash "$SETUP" up || no_engine "No container engine is running, and $SETUP could not start one."
    hash -r
fi
docker compose version >/dev/null 2>&1 || no_engine "This docker has no compose."
docker version --format 'engine {{.Server.Version}}'

# Nothing of the caller's settings or of a .env file decides what is tested.
for name in "${!JAGUAR_@}" "${!COMPOSE_@}"; do unset "$name"; done
MODEL_STORE=$(realpath "${MODEL_STORE:-model_store}")
DATA_DIR=$WORK/data
IMAGE_TAG=$PROJECT
BIND=127.0.0.1
PORT=$(python3 -c 'import socket; s = socket.create_server(("127.0.0.1", 0)); print(s.getsockname()[1])')
export MODEL_STORE DATA_DIR IMAGE_TAG BIND PORT
SITE=http://$BIND:$PORT
[ -f "$MODEL_STORE/default/manifest.json" ] || { echo "There is no bundle $MODEL_STORE/default."; exit 1; }

step "drawing photos"
chmod 755 "$WORK" # the service's user reads the photos
python3 - "$WORK" <<'PYTHON'
"""Four spotted PNGs under data/test/test, copies of them in a zip under other names, and a CSV for each."""
import csv, itertools, random, struct, sys, zipfile, zlib
from pathlib import Path

WIDTH, HEIGHT, PHOTOS = 640, 400, 4
work = Path(sys.argv[1])


def chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def draw(seed):
    """RGB, stored uncompressed so that an upload of all of them is larger than what is kept in memory."""
    rng = random.Random(seed)
    pixels = bytearray(bytes(rng.choices(range(120, 200), k=3)) * WIDTH * HEIGHT)
    for _ in range(150):
        x, y, radius = rng.randrange(WIDTH - 40), rng.randrange(HEIGHT - 40), rng.randrange(8, 40)
        colour = bytes(rng.choices(range(90), k=3))
        for row in range(y, y + radius):
            start = 3 * (row * WIDTH + x)
            pixels[start : start + 3 * radius] = colour * radius
    rows = b"".join(b"\0" + pixels[3 * WIDTH * y : 3 * WIDTH * (y + 1)] for y in range(HEIGHT))
    head = struct.pack(">IIBBBBB", WIDTH, HEIGHT, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows, 0)) + chunk(b"IEND", b"")


def write_csv(path, stem):
    pairs = list(itertools.permutations([f"{stem}_{i}.png" for i in range(PHOTOS)], 2))
    with open(path, "w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["row_id", "query_image", "gallery_image"])
        rows.writerows((100 - number, *pair) for number, pair in enumerate(pairs))


folder = work / "data" / "test" / "test"
folder.mkdir(parents=True)
with zipfile.ZipFile(work / "photos.zip", "w") as archive:
    for i in range(PHOTOS):
        photo = draw(i)
        (folder / f"mounted_{i}.png").write_bytes(photo)
        archive.writestr(f"test/zipped_{i}.png", photo)
write_csv(work / "mounted.csv", "mounted")
write_csv(work / "zipped.csv", "zipped")
PYTHON
chmod -R a+rX "$DATA_DIR"
A=$DATA_DIR/test/test/mounted_0.png
B=$DATA_DIR/test/test/mounted_1.png

step "building"
SECONDS=0
compose build service
printf 'built in %s s, %s MB\n' "$SECONDS" "$(($(docker image inspect --format '{{.Size}}' "jaguar-reid:$PROJECT") / 1000000))"

step "starting on $SITE"
SECONDS=0
if ! compose up --detach --wait --no-build service; then
    compose logs
    exit 1
fi
printf 'healthy in %s s\n' "$SECONDS"
CONTAINER=$(compose ps --quiet service)

step "the file"
mounted_settings="JAGUAR_MODEL_STORE" # the folder that compose mounts, at its default place
inside python -c '
from app.settings import Settings
print(*("JAGUAR_" + name.upper() for name in Settings.model_fields), sep="\n")' >"$WORK/settings"
while read -r name; do
    grep -q "^ *$name:" docker-compose.yml || echo "$name"
done < <(grep -vx "$mounted_settings" "$WORK/settings") >"$WORK/forgotten"
check "every setting is passed on" equals "$(cat "$WORK/forgotten")" ""
check "profile train is valid" compose --profile train config --quiet
VERSION=$(inside python -c 'from importlib.metadata import version; print(version("jaguar-reid"))')
check "the image's label says version $VERSION" \
    equals "$(docker image inspect --format '{{index .Config.Labels "org.opencontainers.image.version"}}' "jaguar-reid:$PROJECT")" "$VERSION"

step "from this machine"
check "HEALTHCHECK says healthy" equals "$(docker inspect --format '{{.State.Health.Status}}' "$CONTAINER")" healthy
check "GET /health/ready answers" ask "$SITE/health/ready"
check "only $BIND is published" equals "$(compose port service 8000)" "$BIND:$PORT"
check "POST /similarity, two photos" ask -F "query_image=@$A" -F "gallery_image=@$B" -o "$WORK/two.json" "$SITE/similarity"
check "POST /similarity, one photo twice" ask -F "query_image=@$A" -F "gallery_image=@$A" -o "$WORK/one.json" "$SITE/similarity"
check "POST /submission, photos of the mounted folder" \
    ask -F "test_csv=@$WORK/mounted.csv" -o "$WORK/mounted.out.csv" "$SITE/submission"
check "POST /submission, photos of an uploaded zip" \
    ask -F "test_csv=@$WORK/zipped.csv" -F "images=@$WORK/photos.zip" -o "$WORK/zipped.out.csv" "$SITE/submission"

cat >"$WORK/answers.py" <<'PYTHON'
import csv, json, sys
from pathlib import Path

work, question = Path(sys.argv[1]), sys.argv[2]


def same(got, wanted, most=0.0):
    if abs(got - wanted) > most:
        sys.exit(f"got {got!r}, expected {wanted!r} within {most}")


def answer(name):
    return json.loads((work / name).read_text())


def rows(name):
    with open(work / name, newline="") as file:
        return list(csv.reader(file))


def similarities(stem):
    """{(query, gallery): similarity}"""
    asked, got = rows(f"{stem}.csv")[1:], rows(f"{stem}.out.csv")[1:]
    return {(q.rsplit("_")[-1], g.rsplit("_")[-1]): float(s) for (_, q, g), (_, s) in zip(asked, got, strict=True)}


if question == "similarity":
    one, two = answer("one.json"), answer("two.json")
    same(one["similarity"], 1, 1e-5)
    same(two["similarity"], (two["cosine"] + 1) / 2, 1e-6)
    if not 0 <= two["similarity"] < one["similarity"] or one["model_version"] != two["model_version"]:
        sys.exit(f"{one}\n{two}")
elif question == "submission":
    for stem in ("mounted", "zipped"):
        asked, got = rows(f"{stem}.csv"), rows(f"{stem}.out.csv")
        if got[0] != ["row_id", "similarity"] or [row[0] for row in got] != [row[0] for row in asked]:
            sys.exit(f"{stem}: header or rows differ: {got}")
        table = similarities(stem)
        for (query, gallery), value in table.items():
            if not 0 <= value <= 1:
                sys.exit(f"{stem}: {query}, {gallery}: {value}")
            same(value, table[gallery, query], 1e-6)
elif question == "agreement":
    mounted, zipped = similarities("mounted"), similarities("zipped")
    for pair, value in mounted.items():
        same(zipped[pair], value, 1e-6)
    same(mounted["0.png", "1.png"], answer("two.json")["similarity"], 1e-5)
else:
    sys.exit(f"{question}?")
PYTHON
check "similarity: of a photo with itself >= 0.99999, of two less, (cosine + 1) / 2" python3 "$WORK/answers.py" "$WORK" similarity
check "submission: header, rows, order, range, symmetry" python3 "$WORK/answers.py" "$WORK" submission
check "mounted, zipped and single photos agree" python3 "$WORK/answers.py" "$WORK" agreement

step "inside"
check "the user is not root" differs "$(inside id -u)" 0
check "no capability, no new privileges" equals \
    "$(inside sh -c 'grep -E "^(CapEff|CapBnd|NoNewPrivs)" /proc/1/status | tr -d "\n\t"')" \
    "CapEff:0000000000000000CapBnd:0000000000000000NoNewPrivs:1"
for folder in / /tmp /opt/venv /srv/jaguar; do check "$folder is read-only" refused "$folder"; done
check "the bundles are read-only" refused /srv/jaguar/model_store
check "the photos are read-only" refused /srv/jaguar/data
check "TMPDIR lies in the volume and can be written to" \
    inside sh -c 'case $TMPDIR in /state/*) touch "$TMPDIR/written" && rm "$TMPDIR/written" ;; *) exit 1 ;; esac'
check "no temporary file is left" equals "$(inside sh -c 'ls -A "$TMPDIR"')" ""
check "no torch, no timm, no training code" inside python -Ic '
from importlib.util import find_spec
found = [name for name in ("torch", "timm", "training") if find_spec(name)]
raise SystemExit(f"{found} can be imported" if found else 0)'

check "ONNX Runtime's telemetry is off" equals "$(inside printenv ORT_DISABLE_TELEMETRY)" 1

step "stopping"
SECONDS=0
compose stop >/dev/null 2>&1
printf 'stopped in %s s\n' "$SECONDS"
check "SIGTERM ends it with exit 0" equals "$(docker inspect --format '{{.State.ExitCode}}' "$CONTAINER")" 0
docker logs "$CONTAINER" >"$WORK/log" 2>&1
tail -n 8 "$WORK/log"
check "no traceback in the log" lacks "$WORK/log" Traceback

[ "$FAILED" -eq 0 ]
