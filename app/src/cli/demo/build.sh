#!/bin/sh
set -eu
mkdir -p out
{ echo '#!/bin/sh'; echo 'echo "${1:-Hello}, world"'; } > out/hello
chmod +x out/hello
echo "built out/hello"
