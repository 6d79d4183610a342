# qdld: see README.md for use, HACKING.md for the exact commands of development.

BUILD ?= build
CC ?= gcc
PKG_CONFIG ?= pkg-config
VERSION := 0.1.0

# Where make install puts things, below DESTDIR. What others look for in one place only goes there whatever the PREFIX.
PREFIX ?= /usr
BINDIR ?= $(PREFIX)/bin
LIBEXECDIR ?= $(PREFIX)/libexec
MANDIR ?= $(PREFIX)/share/man
COMPLETIONSDIR ?= $(PREFIX)/share/bash-completion/completions
METAINFODIR ?= $(PREFIX)/share/metainfo
SYSCONFDIR ?= /etc
DBUSDIR ?= /usr/share/dbus-1
POLKITDIR ?= /usr/share/polkit-1
UNITDIR ?= $(shell $(PKG_CONFIG) --variable=systemdsystemunitdir systemd)
SYSUSERSDIR ?= $(shell $(PKG_CONFIG) --variable=sysusersdir systemd)
CATALOGDIR ?= $(shell $(PKG_CONFIG) --variable=catalogdir systemd)
UDEVDIR ?= $(shell $(PKG_CONFIG) --variable=udevdir udev)

# make SAN=1 BUILD=build-san … builds and runs everything under AddressSanitizer and UBSan.
# make fuzz builds with clang, into $(BUILD)-fuzz, every parser instrumented.
ifeq ($(FUZZ),1)
CC := clang-14
OPT ?= -O1 -g -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer
else ifeq ($(SAN),1)
OPT ?= -O1 -g -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
else
OPT ?= -O2 -g -D_FORTIFY_SOURCE=2
endif

WARN := -Wall -Wextra -Werror -Wshadow -Wmissing-prototypes -Wstrict-prototypes -Wformat=2 -Wundef -Wpointer-arith \
	-Wwrite-strings -Wvla -Wno-missing-field-initializers
# clang does not count a cleanup function as a use.
ifeq ($(FUZZ),1)
WARN += -Wno-unused-variable
endif
CPPFLAGS += -D_GNU_SOURCE -D_FILE_OFFSET_BITS=64 -DQDLD_VERSION='"$(VERSION)"' -Idaemon -I$(BUILD)
CFLAGS += -std=gnu17 $(OPT) $(WARN) -fstack-protector-strong -fno-strict-aliasing -MMD -MP
LDFLAGS += -Wl,-z,relro,-z,now -Wl,--as-needed

PACKAGES := libsystemd libudev libusb-1.0 libxml-2.0 libarchive json-c libcrypto inih libseccomp
ifneq ($(filter-out deps deb demo check check-system bench bench-system clean,$(or $(MAKECMDGOALS),all)),)
CPPFLAGS += $(shell $(PKG_CONFIG) --cflags $(PACKAGES))
endif

# ---- the house: one archive a floor, each floor links what is below it ----
floor = $(patsubst %.c,$(BUILD)/%.o,$(wildcard daemon/$(1)/*.c))
WORKER_MAIN := $(BUILD)/daemon/worker/main.o
SERVICE_MAIN := $(BUILD)/daemon/service/main.o

LIB_base := $(BUILD)/libbase.a
LIB_link := $(BUILD)/liblink.a $(LIB_base)
LIB_transport := $(BUILD)/libtransport.a $(LIB_base)
LIB_protocol := $(BUILD)/libprotocol.a $(LIB_transport)
LIB_storage := $(BUILD)/libstorage.a $(LIB_protocol)
LIB_firmware := $(BUILD)/libfirmware.a $(LIB_storage)
LIB_backup := $(BUILD)/libbackup.a $(LIB_storage)
LIB_worker := $(BUILD)/libworker.a $(BUILD)/libbackup.a $(BUILD)/libfirmware.a $(BUILD)/libstorage.a $(BUILD)/libprotocol.a \
	$(BUILD)/libtransport.a $(LIB_link)
LIB_service := $(BUILD)/libservice.a $(LIB_link)
FLOORS := base link transport protocol storage firmware backup worker service

# mibib_print/scan use the link's text form.
$(foreach f,storage firmware backup,$(eval LIB_$(f) += $(BUILD)/liblink.a $(BUILD)/libbase.a))

LIBS_worker := $(shell $(PKG_CONFIG) --libs libusb-1.0 libxml-2.0 libarchive json-c libcrypto libseccomp 2>/dev/null)
LIBS_service := $(shell $(PKG_CONFIG) --libs libsystemd libudev inih 2>/dev/null)
LIBS_client := $(shell $(PKG_CONFIG) --libs libsystemd json-c libarchive 2>/dev/null)
LIBS_test := $(shell $(PKG_CONFIG) --libs cmocka 2>/dev/null)
LIBS_umockdev := $(shell $(PKG_CONFIG) --libs umockdev-1.0 gobject-2.0 2>/dev/null)
CFLAGS_umockdev := $(shell $(PKG_CONFIG) --cflags umockdev-1.0 gobject-2.0 2>/dev/null)

PROGRAMS := $(BUILD)/qdld $(BUILD)/qdld-worker $(BUILD)/qdlctl $(BUILD)/qdl-agent
TOOLS := $(BUILD)/virtual-modem

all: $(PROGRAMS) $(TOOLS)

# Both halves of a build carry the same id: a digest of what they are made from.
BUILD_SOURCES := $(sort $(wildcard daemon/*/*.[ch]))
$(BUILD)/build-id.h: $(BUILD_SOURCES) Makefile
	@mkdir -p $(@D)
	@printf '#define QDLD_BUILD_ID "%s"\n' "$$(cat $(BUILD_SOURCES) | sha256sum | cut -c1-16)" > $@

$(BUILD)/%.o: %.c | $(BUILD)/build-id.h
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS) $(CFLAGS) -c -o $@ $<
$(WORKER_MAIN) $(BUILD)/daemon/service/process.o: $(BUILD)/build-id.h

# Two makes may be at it at once (tests install): each writes its own file.
# Rewritten only when it says something new, so that another PREFIX makes what it must and no more.
$(BUILD)/paths.h: FORCE
	@mkdir -p $(@D)
	@new=$@.$$$$; printf '#define QDLD_LIBEXECDIR "%s"\n' '$(LIBEXECDIR)' > $$new; cmp -s $@ $$new && rm $$new || mv $$new $@
$(SERVICE_MAIN): $(BUILD)/paths.h
FORCE:

define floor_rule
$(BUILD)/lib$(1).a: $(filter-out $(WORKER_MAIN) $(SERVICE_MAIN),$(call floor,$(1)))
	@rm -f $$@
	$$(AR) rcs $$@ $$^
endef
$(foreach f,$(FLOORS),$(eval $(call floor_rule,$(f))))

$(BUILD)/qdld-worker: $(WORKER_MAIN) $(LIB_worker)
	$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $(WORKER_MAIN) $(LIB_worker) $(LIBS_worker)

$(BUILD)/qdld: $(SERVICE_MAIN) $(LIB_service)
	$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $(SERVICE_MAIN) $(LIB_service) $(LIBS_service)

CLIENT_OBJECTS := $(patsubst %.c,$(BUILD)/%.o,$(wildcard client/*.c))
$(BUILD)/qdlctl: $(CLIENT_OBJECTS)
	$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $^ $(LIBS_client)

# What shows news on the desktop.
AGENT_OBJECTS := $(patsubst %.c,$(BUILD)/%.o,$(wildcard client/agent/*.c))
$(BUILD)/qdl-agent: $(AGENT_OBJECTS) $(patsubst %,$(BUILD)/client/%.o,agent bus help loop options output report)
	$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $^ $(LIBS_client)

# The virtual modem shares no code with the daemon: it is the other side of the wire.
MODEM_OBJECTS := $(patsubst %.c,$(BUILD)/%.o,$(wildcard tests/modem/*.c))
$(BUILD)/virtual-modem: $(MODEM_OBJECTS)
	$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $^ -lcrypto

# Not $^: an old build directory may have a bare-writer.d that names what it was once compiled from.
BARE_WRITER_OBJECTS := $(BUILD)/tests/bench/bare-writer.o $(BUILD)/tests/bench/bare-link.o
$(BUILD)/bare-writer: $(BARE_WRITER_OBJECTS)
	$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $(BARE_WRITER_OBJECTS)

$(BUILD)/bare-diag: tests/bench/bare-diag.c
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS) $(CFLAGS) -o $@ $<

# ---- fuzzers: tests/fuzz/fuzz-PARSER.c, linked with everything below the service ----
FUZZERS := $(patsubst tests/fuzz/%.c,$(BUILD)/fuzz/%,$(wildcard tests/fuzz/fuzz-*.c))
$(BUILD)/fuzz/%: $(BUILD)/tests/fuzz/%.o $(LIB_worker)
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) $(LDFLAGS) -fsanitize=fuzzer -o $@ $< $(LIB_worker) $(LIBS_worker)

fuzzers: $(FUZZERS)

# Of each fuzzer; four times as long round trips, so that in a minute they are more than check has, and others each time.
SECONDS ?= 60
fuzz:
	@tests/install-deps clang-14 libclang-rt-14-dev
	+$(MAKE) -s FUZZ=1 BUILD=$(BUILD)-fuzz fuzzers
	@tests/run-fuzz $(BUILD)-fuzz $(SECONDS)
	+$(MAKE) -s all
	@BUILD=$(abspath $(BUILD)) /usr/bin/python3 tests/rules/round-trips.py --seconds $$((4 * $(SECONDS)))

# ---- unit tests: tests/unit/FLOOR/test-MODULE.c, linked with that floor and what is below it ----
UNIT_TESTS := $(patsubst tests/unit/%.c,$(BUILD)/unit/%,$(wildcard tests/unit/*/test-*.c))
define unit_rule
$(BUILD)/unit/$(1)/%: $(BUILD)/tests/unit/$(1)/%.o $(LIB_$(1))
	@mkdir -p $$(@D)
	$$(CC) $$(CFLAGS) $$(LDFLAGS) -o $$@ $$< $$(LIB_$(1)) $(2) $$(LIBS_test)
endef
$(foreach f,base link transport protocol storage firmware backup worker,$(eval $(call unit_rule,$(f),$$(LIBS_worker))))
$(eval $(call unit_rule,service,$$(LIBS_service)))
# Those with a scripted modem have a time of their own: tests/unit/peer-clock.h.
PEER_CLOCK := $(BUILD)/tests/unit/peer-clock.o
$(filter $(BUILD)/unit/protocol/%,$(UNIT_TESTS)): $(PEER_CLOCK)
$(BUILD)/unit/protocol/%: LIBS_test += $(PEER_CLOCK) -Wl,--wrap=poll,--wrap=__poll_chk,--wrap=clock_gettime
# So has the one whose modem is a child process: tests/unit/worker/child-clock.h.
CHILD_CLOCK := $(BUILD)/tests/unit/worker/child-clock.o
$(BUILD)/unit/worker/test-session: $(CHILD_CLOCK)
$(BUILD)/unit/worker/test-session: LIBS_test += $(CHILD_CLOCK) -Wl,--wrap=poll,--wrap=__poll_chk,--wrap=clock_gettime
# Tests on mocked USB and udev: test-*-umockdev.c of any floor.
$(BUILD)/tests/unit/%-umockdev.o: CPPFLAGS += $(CFLAGS_umockdev)
$(BUILD)/unit/%-umockdev: LIBS_test += $(LIBS_umockdev)
.PRECIOUS: $(BUILD)/%.o

check-unit: $(UNIT_TESTS)
	@BUILD=$(abspath $(BUILD)) tests/run-tests $(UNIT_TESTS)

check-san:
	+$(MAKE) SAN=1 BUILD=$(BUILD)-san check-unit check-refusals

# What is refused and who breaks: a service under AddressSanitizer does not end with 0 if it has lost a byte.
check-refusals: all
	@BUILD=$(abspath $(BUILD)) tests/run-tests $(patsubst %,tests/service/test_%.py,api link hostile limits arguments)

check-service: all $(BUILD)/full-disk.so
	@BUILD=$(abspath $(BUILD)) tests/run-tests tests/service tests/modem

# The flash rules, each by what the modem received and by what lies in its flash.
check-rules: all $(BUILD)/still-clock.so $(BUILD)/full-disk.so
	@BUILD=$(abspath $(BUILD)) tests/run-tests tests/rules

# Both in one pool: most of them wait.
check-pytest: all $(BUILD)/still-clock.so $(BUILD)/full-disk.so
	@BUILD=$(abspath $(BUILD)) tests/run-tests tests/rules tests/service tests/modem

# Seeded round trips of backup and restore; FIRST=731 CASES=1 repeats one.
CASES ?= 1000
FIRST ?= 0
check-round-trips: all
	@BUILD=$(abspath $(BUILD)) /usr/bin/python3 tests/rules/round-trips.py --first $(FIRST) --cases $(CASES)

# A disk that is full, preloaded into a worker or the service.
$(BUILD)/full-disk.so: tests/rules/full-disk.c
	@mkdir -p $(@D)
	$(CC) -D_GNU_SOURCE -D_FILE_OFFSET_BITS=64 -std=gnu17 -O2 -g $(WARN) -fPIC -shared -o $@ $<

# A backup and a restore, interrupted at every command by modem, worker and service; of calibration, at every exchange.
check-interruptions: all $(BUILD)/still-clock.so
	@BUILD=$(abspath $(BUILD)) /usr/bin/python3 tests/rules/interruptions.py
	@BUILD=$(abspath $(BUILD)) /usr/bin/python3 tests/rules/diag-interruptions.py

# The clock of the fault runs, preloaded into worker and modem.
$(BUILD)/still-clock.so: tests/faults/still-clock.c
	@mkdir -p $(@D)
	$(CC) -D_GNU_SOURCE -std=gnu17 -O2 -g $(WARN) -fPIC -shared -o $@ $<

# Every fault at every point of one flash. tests/faults/faults.py --only KIND@POINT repeats one.
check-faults: all $(BUILD)/still-clock.so
	@BUILD=$(abspath $(BUILD)) /usr/bin/python3 tests/faults/faults.py

# The packages in a VM with a real kernel, udev, systemd and polkit: tests/system. ONLY="words" runs some of it.
check-system:
	@tests/install-deps mmdebstrap qemu-system-x86 cpio dpkg-dev debhelper lintian
	@+$(MAKE) -s all deb
	@BUILD=$(abspath $(BUILD)) tests/system/check-system

# Beside Debian's qdl, in the same VM.
bench-system:
	@tests/install-deps mmdebstrap qemu-system-x86 cpio dpkg-dev debhelper lintian
	@+$(MAKE) -s all deb $(BUILD)/bare-writer
	@BUILD=$(abspath $(BUILD)) DEADLINE=3000 tests/system/check-system --bench

check-style:
	tests/check-style

# Installs what is missing first, so that both work as written on a fresh clone of a new machine.
demo:
	@tests/install-deps
	@+$(MAKE) -s all
	@BUILD=$(BUILD) tests/demo/demo

# Whatever has no deadline of its own, and so may be starved: of a clock that stands still, or none.
check-beside:
	+$(MAKE) -s check-faults
	+$(MAKE) -s check-round-trips
	+$(MAKE) -s check-interruptions
	+$(MAKE) -s SAN=1 BUILD=$(BUILD)-san check-unit all
	+$(MAKE) -s fuzz SECONDS=3

# The pool waits much of its time for what is real time to a modem; the least of what computes goes on beside it, and speaks when the pool has.
check:
	@tests/install-deps
	@+$(MAKE) -s all
	+$(MAKE) -s check-style
	+$(MAKE) -s check-unit
	@nice -n 19 $(MAKE) -s check-beside >$(BUILD)/beside.log 2>&1 & beside=$$!; trap 'kill $$beside; exit 1' INT TERM; \
		$(MAKE) -s check-pytest; pool=$$?; wait $$beside; status=$$?; cat $(BUILD)/beside.log; [ $$pool = 0 ] && [ $$status = 0 ]
	+$(MAKE) -s SAN=1 BUILD=$(BUILD)-san check-refusals
	+$(MAKE) -s check-system

# Here, and beside Debian's qdl in the VM: one after the other, for both want the machine to themselves.
bench:
	+@$(MAKE) bench-here; here=$$?; $(MAKE) bench-system && [ $$here = 0 ]

bench-here: all $(BUILD)/still-clock.so $(BUILD)/bare-writer $(BUILD)/bare-diag
	BUILD=$(abspath $(BUILD)) /usr/bin/python3 tests/bench/bench.py

# ---- installing ----
$(BUILD)/qdld.service: systemd/qdld.service.in FORCE
	@mkdir -p $(@D)
	@new=$@.$$$$; sed 's|@libexecdir@|$(LIBEXECDIR)|' $< > $$new && mv $$new $@

$(BUILD)/org.qdld1.5: dbus/org.qdld1.xml dbus/make-manual
	@mkdir -p $(@D)
	@new=$@.$$$$; dbus/make-manual $< > $$new && mv $$new $@

# The unit and rules directories have no default of ours: a file in the wrong one is found by nobody.
install: $(PROGRAMS) $(BUILD)/qdld.service $(BUILD)/org.qdld1.5
	@[ -n '$(UNITDIR)' ] && [ -n '$(SYSUSERSDIR)' ] && [ -n '$(UDEVDIR)' ] && [ -n '$(CATALOGDIR)' ] || \
		{ echo 'install: systemd.pc or udev.pc is missing; set UNITDIR, SYSUSERSDIR, CATALOGDIR and UDEVDIR' >&2; exit 1; }
	install -D -m 755 $(BUILD)/qdld $(DESTDIR)$(LIBEXECDIR)/qdld
	install -D -m 755 $(BUILD)/qdld-worker $(DESTDIR)$(LIBEXECDIR)/qdld-worker
	install -D -m 755 $(BUILD)/qdlctl $(DESTDIR)$(BINDIR)/qdlctl
	install -D -m 755 $(BUILD)/qdl-agent $(DESTDIR)$(BINDIR)/qdl-agent
	install -D -m 644 client/agent/org.qdld1.agent.desktop $(DESTDIR)$(SYSCONFDIR)/xdg/autostart/org.qdld1.agent.desktop
	install -D -m 644 $(BUILD)/qdld.service $(DESTDIR)$(UNITDIR)/qdld.service
	install -D -m 644 systemd/qdld.sysusers $(DESTDIR)$(SYSUSERSDIR)/qdld.conf
	install -D -m 644 systemd/qdld.catalog $(DESTDIR)$(CATALOGDIR)/qdld.catalog
	install -D -m 644 systemd/60-qdld.rules $(DESTDIR)$(UDEVDIR)/rules.d/60-qdld.rules
	install -D -m 644 systemd/org.qdld1.qdld.metainfo.xml $(DESTDIR)$(METAINFODIR)/org.qdld1.qdld.metainfo.xml
	install -D -m 644 systemd/qdld.conf $(DESTDIR)$(SYSCONFDIR)/qdld/qdld.conf
	install -D -m 644 dbus/org.qdld1.conf $(DESTDIR)$(DBUSDIR)/system.d/org.qdld1.conf
	install -D -m 644 dbus/org.qdld1.service $(DESTDIR)$(DBUSDIR)/system-services/org.qdld1.service
	install -D -m 644 dbus/org.qdld1.xml $(DESTDIR)$(DBUSDIR)/interfaces/org.qdld1.xml
	install -D -m 644 dbus/org.qdld1.policy $(DESTDIR)$(POLKITDIR)/actions/org.qdld1.policy
	install -D -m 644 dbus/org.qdld1.rules $(DESTDIR)$(POLKITDIR)/rules.d/60-qdld.rules
	install -D -m 644 client/qdlctl.bash $(DESTDIR)$(COMPLETIONSDIR)/qdlctl
	for m in man/*.[1-8] $(BUILD)/org.qdld1.5; do install -D -m 644 $$m $(DESTDIR)$(MANDIR)/man$${m##*.}/$${m##*/}; done

# Debian packages, in $(BUILD)/deb. Made from a copy, so that the tree stays as it is.
deb:
	@tests/install-deps dpkg-dev debhelper lintian udev
	@tests/make-deb $(BUILD)/deb

deps:
	tests/install-deps

clean:
	rm -rf $(BUILD) $(BUILD)-*

# Not those of the VM's file system, which has directories of such names.
-include $(shell find $(BUILD) -path $(BUILD)/system -prune -o -name '*.d' -type f -print 2>/dev/null)

.PHONY: all install deb fuzz fuzzers bench bench-here demo check check-unit check-san check-refusals check-service check-rules check-pytest check-round-trips check-interruptions check-faults check-beside check-system bench-system check-style deps clean FORCE

format:
	clang-format -i $$(git ls-files '*.c' '*.h')
.PHONY: format
