#!/usr/bin/env bash
# Fetch every wheel that an installation of Willis needs, for networks without a package index, with their sums.
#
#   deploy/wheelhouse.sh [FOLDER]            fetch; FOLDER is deploy/wheelhouse where none is named
#   deploy/wheelhouse.sh --check [FOLDER]    check a folder after it was carried elsewhere
#
# Fetch on a machine with the operating system, processor and Python version of the one that will install.
#   PYTHON=python3.12                                   the Python to fetch for; python3 where not set
#   TORCH="torch==2.13.0 --index-url URL"               another build of torch than the package index has
# Exit codes: 0 ok, 1 refused (a sum does not fit), 2 bad input, 3 the index cannot be reached or lacks a wheel.
set -euo pipefail

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
python="${PYTHON:-python3}"

refuse() { # code, message
    echo "wheelhouse.sh: $2" >&2
    exit "$1"
}

fetch() { # folder
    local part="$1.part" version wish
    rm -rf "$part"
    mkdir -p "$part" "$1"
    cp "$root/constraints.txt" "$part/constraints.txt"
    if [ -n "${TORCH:-}" ]; then
        grep -v '^torch==' "$root/constraints.txt" >"$part/constraints.txt"
        read -r -a wish <<<"$TORCH"
        "$python" -m pip download --dest "$part" --only-binary :all: "${wish[@]}" ||
            refuse 3 "cannot fetch $TORCH"
        version="$(basename "$part"/torch-*.whl | cut -d- -f2)"
        echo "torch==$version" >>"$part/constraints.txt"
    fi
    "$python" -m pip wheel --no-deps --wheel-dir "$part" "$root" || refuse 3 "cannot build Willis' own wheel"
    "$python" -m pip download --dest "$part" --find-links "$part" --only-binary :all: \
        --constraint "$part/constraints.txt" "$(echo "$part"/willis-*.whl)" || refuse 3 "cannot fetch every wheel"
    (cd "$part" && sha256sum -- *.whl constraints.txt >SHA256SUMS)
    if [ -f "$1/SHA256SUMS" ]; then # what an earlier call fetched, and nothing else
        (cd "$1" && sed 's/^[0-9a-f]*[ *]*//' SHA256SUMS | xargs -d '\n' rm -f -- SHA256SUMS)
    fi
    mv "$part"/* "$1"
    rmdir "$part"
}

check() { # folder
    [ -f "$1/SHA256SUMS" ] || refuse 2 "$1 has no SHA256SUMS: fetch it with deploy/wheelhouse.sh $1"
    (cd "$1" && sha256sum --check --strict --quiet SHA256SUMS >&2) ||
        refuse 1 "$1 is not what was fetched: carry it over again"
    local here told
    here="$(cd "$1" && printf '%s\n' *.whl constraints.txt | LC_ALL=C sort)"
    told="$(sed 's/^[0-9a-f]*[ *]*//' "$1/SHA256SUMS" | LC_ALL=C sort)"
    [ "$here" = "$told" ] || refuse 1 "$1 holds wheels that SHA256SUMS does not name: take them out"
}

# That nothing is missing: everything resolves from the folder alone. Nothing is installed.
resolve() { # folder
    "$python" -m pip --isolated install --dry-run --quiet --ignore-installed --no-index --find-links "$1" \
        --constraint "$1/constraints.txt" willis || refuse 3 "$1 is not complete for $("$python" --version)"
}

action=fetch
if [ "${1:-}" = --check ]; then
    action=check
    shift
fi
case "${1:-}" in -*) refuse 2 "unknown option $1; see the first lines of this file" ;; esac
[ "$#" -le 1 ] || refuse 2 "one folder, got $#"
folder="${1:-$root/deploy/wheelhouse}"
if [ "$action" = fetch ]; then fetch "$folder"; fi
check "$folder"
resolve "$folder"
echo "$folder: $(find "$folder" -name '*.whl' | wc -l) wheels, all as fetched; install with" >&2
echo "  pip install --no-index --find-links $folder --constraint $folder/constraints.txt willis" >&2
