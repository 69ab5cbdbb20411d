#!/bin/sh
# Installs emixer's wheel in dist/ beside this file, held to requirements.lock, into the Python of an image:
# sh install.sh cpu|cuda. Used by Dockerfile and emixer.def.
set -eu
cd "$(dirname "$0")"

case ${1:-} in
    # builds without CUDA, whose versions (2.x+cpu) pip prefers to the same ones without a suffix
    cpu) set -- --extra-index-url https://download.pytorch.org/whl/cpu ;;
    cuda) set -- ;;
    *)
        echo "install.sh: the accelerator is cpu or cuda, not '${1:-}'." >&2
        exit 2
        ;;
esac

wheels=$(ls dist/emixer-*.whl)
if [ "$(echo "$wheels" | wc -l)" != 1 ]; then
    echo "install.sh: expected one wheel of emixer in dist, found: $wheels. Delete the others." >&2
    exit 2
fi
# Compiled here: the image is read-only later, and each of Ray's processes would compile what it imports anew
pip install --no-cache-dir --compile --constraint requirements.lock "$@" "emixer[dicom,web,hub] @ file://$PWD/$wheels"
