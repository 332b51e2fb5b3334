# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

PYTHON ?= python3
BIN := .venv/bin
export PATH := $(CURDIR)/.venv/bin:$(PATH)
export ANSIBLE_COLLECTIONS_PATH := $(CURDIR)/.collections
# An interceptor of outgoing TLS is trusted where the machine's own bundle trusts it, by pip, uv and node too.
BUNDLE := $(wildcard /etc/ssl/certs/ca-certificates.crt)
ifneq ($(BUNDLE),)
export PIP_CERT ?= $(BUNDLE)
export SSL_CERT_FILE ?= $(BUNDLE)
export NODE_EXTRA_CA_CERTS ?= $(BUNDLE)
endif
LINK := .collections/ansible_collections/nearby/mirrors

# A cargo that is there is left alone. Debian 12's own reads no sparse index, and its cargo-web does.
CARGO := $(if $(shell command -v cargo),,$(if $(filter bookworm,$(shell . /etc/os-release && echo $$VERSION_CODENAME)),cargo-web,cargo))
# So is an npm.
NPM := $(if $(shell command -v npm),,npm)
# Debian's package of dockerd is called as a registry is, and no registry's name is written down here.
DOCKERD := $(addprefix docker.,io)

# Of the quickstart's mirror.
PORT := 8080

.PHONY: help setup setup-test host quickstart clean-quickstart test test-table test-rest test-machine test-containers test-fast fast-nginx fast-apache fast-rest fast-nodes benchmark faults reference build clean

help: ## what can be made
	@sed -nE 's/^([a-z-]+):.*## (.*)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 28

$(LINK):
	mkdir -p $(dir $@)
	ln -sfn ../../.. $@

.venv/controller: requirements.txt
	test -x $(BIN)/pip || $(PYTHON) -c 'import ensurepip' 2>/dev/null || tests/host-packages python3-venv
	test -x $(BIN)/pip || $(PYTHON) -m venv .venv
	$(BIN)/pip install -q -r requirements.txt
	touch $@

.venv/test: requirements-test.txt .venv/controller
	$(BIN)/pip install -q -r requirements-test.txt
	touch $@

setup: .venv/controller $(LINK)
setup-test: .venv/test $(LINK)

host: ## install the Debian packages that the tests need (root)
	tests/host-packages nginx apache2 faketime logrotate wrk golang-go podman buildah runc iptables nftables netavark aardvark-dns openssh-client \
		mmdebstrap iproute2 gpg mount debian-archive-keyring ca-certificates dnf createrepo-c rpm zstd $(CARGO) $(NPM) maven gradle ruby bundler docker-registry skopeo \
		containerd $(DOCKERD)

quickstart: setup ## a mirror on this machine at 127.0.0.1:8080 (or PORT=...), and real installs through it (root)
	ansible-playbook nearby.mirrors.quickstart -e mirror_port=$(PORT)
	$(BIN)/pip install -q "$$(grep ^uv= requirements-test.txt)"
	$(BIN)/python tests/clients/installs.py --mirror http://127.0.0.1:$(PORT) --purge

clean-quickstart: setup ## take off all that quickstart put on this machine (root)
	ansible-playbook nearby.mirrors.quickstart -e mirror_state=absent
	tests/host-packages --remove
	rm -rf .venv .collections

test: setup-test host ## everything: lint, unit, static, behaviour, protocols, nodes, scrub, deploy, clients, quickstart, molecule (root)
	$(MAKE) -j2 -Oline test-table test-rest
	$(MAKE) -j2 -Oline test-machine test-containers

# The table mostly waits, and its rows are timed; the others mostly compute, and give way to it.
test-table:
	$(BIN)/nox -s behaviour protocols

test-rest:
	nice $(BIN)/nox -s lint unit static nodes

# One mirror at a time on this machine itself, while others are in containers.
test-machine:
	$(BIN)/nox -s deploy clients

test-containers:
	$(BIN)/nox -s scrub quickstart molecule

test-fast: setup-test ## what needs neither root nor containers, but for the rows of the table that mostly wait
	tests/host-packages nginx apache2 faketime
	$(MAKE) -j4 -Oline fast-nginx fast-apache fast-rest fast-nodes

fast-nginx:
	$(BIN)/nox -s behaviour -- -m "not patient" -k nginx

fast-apache: # and the rows of no engine
	$(BIN)/nox -s behaviour -- -m "not patient" -k "not nginx"

fast-rest:
	nice $(BIN)/nox -s lint unit static

fast-nodes:
	nice $(BIN)/nox -s nodes

benchmark: setup-test host ## measure hits, cold herds, other proxies and deploys; writes benchmark/RESULTS.md (root)
	$(BIN)/python benchmark/run.py

faults: setup-test host ## inject every fault under load, for both engines; writes tests/faults/RESULTS.md (root)
	$(BIN)/python tests/faults/run.py

reference: setup ## write docs/reference from the specs and the plugins' documentation
	$(BIN)/python tools/reference.py

build: setup ## the collection as an archive
	ansible-galaxy collection build --force

clean: ## take away what was set up in this folder
	rm -rf .venv .collections .nox .cache .ansible
