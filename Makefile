# Thin: each target is one line over a CMake preset or a script in scripts/.
.PHONY: run test build bench lint sanitize fuzz coverage docs nothing-lost delivery-proof

run: ; @scripts/run.sh
test: ; @scripts/test.sh
build: ; @scripts/build.sh release
bench: ; @scripts/bench.sh && scripts/bench-messaging.sh && scripts/bench-storage.sh
lint: ; @scripts/lint.sh
sanitize: ; @scripts/sanitize.sh
fuzz: ; @scripts/fuzz.sh
coverage: ; @scripts/coverage.sh
docs: ; @scripts/docs.sh
nothing-lost: ; @scripts/nothing-lost.sh $(ARGS)
delivery-proof: ; @scripts/delivery-proof.sh
