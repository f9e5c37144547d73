#!/bin/sh
# Certificates without cert-manager: `sh k8s/certificates.sh DIR` creates an authority (ca.crt, ca.key) in the folder
# DIR, unless there is one, and its certificates for MLflow and for components/postgres, valid for a year.
set -eu
umask 077
mkdir -p "$1"
cd "$1"
if [ ! -f ca.key ]; then
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3650 -subj "/CN=Parapet" \
    -addext "basicConstraints=critical,CA:TRUE" -addext "keyUsage=critical,keyCertSign,cRLSign" \
    -keyout ca.key -out ca.crt
fi
for name in mlflow postgres; do
  cat > "$name.ext" << END
subjectAltName = DNS:$name, DNS:$name.parapet, DNS:$name.parapet.svc, DNS:$name.parapet.svc.cluster.local, DNS:localhost, IP:127.0.0.1
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth
END
  openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=$name" -keyout "$name.key" \
    -out "$name.csr"
  openssl x509 -req -in "$name.csr" -CA ca.crt -CAkey ca.key -CAcreateserial -days 365 -sha256 \
    -extfile "$name.ext" -out "$name.crt"
  rm "$name.csr" "$name.ext"
done
