/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* watch-udev.c with the real libudev on a mocked /sys: run under umockdev-wrapper. */

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <sys/stat.h>
#include <libudev.h>
#include <umockdev.h>
#include <cmocka.h>

#include "base/text.h"
#include "service/watch.h"

enum { TOLD_MAX = 16 };

#define PCI_PATH "pci-0000:00:14.0-usb-0:"

struct told {
    bool here;
    char key[128], port[64], kernel_name[32], devnode[64], product[128];
    uint16_t vid, pid;
    unsigned interfaces;
    bool cold;
};

struct fixture {
    UMockdevTestbed *testbed;
    char *root;
    sd_event *event;
    struct watch *watch;
    struct told told[TOLD_MAX];
    unsigned n_told;
};

/* ---- what the watch says ---- */

static void tell(struct fixture *f, const struct appearance *a, bool here)
{
    assert_true(f->n_told < TOLD_MAX);
    struct told *t = &f->told[f->n_told++];
    *t = (struct told){
        .here = here, .vid = a->vid, .pid = a->pid, .interfaces = a->interfaces, .cold = a->cold};
    assert_int_equal(a->virtual_fd, -1);
    snprintf(t->key, sizeof(t->key), "%s", a->key);
    snprintf(t->port, sizeof(t->port), "%s", a->port);
    snprintf(t->kernel_name, sizeof(t->kernel_name), "%s", a->kernel_name);
    snprintf(t->devnode, sizeof(t->devnode), "%s", a->devnode);
    snprintf(t->product, sizeof(t->product), "%s", a->product);
}

static void on_appeared(void *userdata, const struct appearance *a)
{
    tell(userdata, a, true);
}

static void on_gone(void *userdata, const struct appearance *a)
{
    tell(userdata, a, false);
}

/* Starts the watch, as the service does. */
static void start(struct fixture *f)
{
    struct watch_handler handler = {.appeared = on_appeared, .gone = on_gone, .userdata = f};
    assert_int_equal(watch_udev_new(f->event, &handler, &f->watch), 0);
}

/* Lets the loop handle all that is there. */
static void run(struct fixture *f)
{
    int r;
    while ((r = sd_event_run(f->event, 0)) > 0)
        ;
    assert_int_equal(r, 0);
}

/* ENOBUFS, as a netlink socket says it when events were lost; umockdev's sockets do not. */
static unsigned overruns;

struct udev_device *udev_monitor_receive_device(struct udev_monitor *monitor)
{
    static struct udev_device *(*real)(struct udev_monitor *);
    if (!real)
        *(void **)&real = dlsym(RTLD_NEXT, "udev_monitor_receive_device");
    if (overruns > 0) {
        overruns--;
        errno = ENOBUFS;
        return NULL;
    }
    return real(monitor);
}

/* The mocked sockets give every group the same; in life that of the kernel is ahead of the rules, which make
 * ID_PATH and the node's owner. */
static char group[16];

struct udev_monitor *udev_monitor_new_from_netlink(struct udev *udev, const char *name)
{
    static struct udev_monitor *(*real)(struct udev *, const char *);
    if (!real)
        *(void **)&real = dlsym(RTLD_NEXT, "udev_monitor_new_from_netlink");
    snprintf(group, sizeof(group), "%s", name);
    return real(udev, name);
}

static int setup(void **state)
{
    static struct fixture f;
    f = (struct fixture){.testbed = umockdev_testbed_new()};
    f.root = umockdev_testbed_get_root_dir(f.testbed);
    assert_int_equal(sd_event_new(&f.event), 0);
    overruns = 0;
    *state = &f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    f->watch = watch_free(f->watch);
    f->event = sd_event_unref(f->event);
    g_free(f->root);
    g_clear_object(&f->testbed);
    return 0;
}

/* ---- the USB side ---- */

struct plug {
    const char *parent; /* syspath, NULL for none */
    const char *name;
    uint16_t vid, pid;
    unsigned bus, address;
    const char *product;
    const char *id_path; /* NULL for none */
    const char *speed;
    unsigned interfaces; /* 0: no descriptors at all */
    const char *minor;   /* with a device number udevd's database decides who is initialized */
    const char *ids;     /* PRODUCT=, if it shall not be what vid and pid make */
};

static void write_descriptors(UMockdevTestbed *testbed, const char *syspath, unsigned interfaces)
{
    uint8_t d[18 + 9] = {18, 1};
    d[18] = 9;
    d[19] = 2;
    d[22] = (uint8_t)interfaces;
    umockdev_testbed_set_attribute_binary(testbed, syspath, "descriptors", d, sizeof(d));
}

static char *plug(struct fixture *f, const struct plug *p)
{
    char bus[16], address[16], node[64], ids[32], devnum[16];
    if (p->parent) {
        char path[512];
        snprintf(path, sizeof(path), "%s%s", f->root, p->parent);
        assert_int_equal(g_mkdir_with_parents(path, 0755), 0);
    }
    snprintf(bus, sizeof(bus), "%03u", p->bus);
    snprintf(address, sizeof(address), "%03u", p->address);
    snprintf(devnum, sizeof(devnum), "%u", p->address);
    snprintf(node, sizeof(node), "/dev/bus/usb/%s/%s", bus, address);
    snprintf(ids, sizeof(ids), "%x/%x/0", p->vid, p->pid);
    const char *attributes[] = {
        "devnum",   devnum, "speed", p->speed ? p->speed : "480", p->product ? "product" : NULL,
        p->product, NULL,
    };
    const char *properties[24] = {
        "DEVTYPE", "usb_device", "DEVNAME", node,      "BUSNUM",
        bus,       "DEVNUM",     address,   "PRODUCT", p->ids ? p->ids : ids,
    };
    size_t n = 10;
    if (p->id_path) {
        properties[n++] = "ID_PATH";
        properties[n++] = p->id_path;
    }
    if (p->minor) {
        properties[n++] = "MAJOR";
        properties[n++] = "189";
        properties[n++] = "MINOR";
        properties[n++] = p->minor;
    }
    char *syspath = umockdev_testbed_add_devicev(f->testbed, "usb", p->name, p->parent, (char **)attributes,
                                                 (char **)properties);
    assert_non_null(syspath);
    if (p->interfaces > 0)
        write_descriptors(f->testbed, syspath, p->interfaces);
    return syspath;
}

static void unplug(struct fixture *f, char *syspath)
{
    umockdev_testbed_uevent(f->testbed, syspath, "remove");
    umockdev_testbed_remove_device(f->testbed, syspath);
    g_free(syspath);
}

/* A hub port below a device's directory, with or without the link to its other half; the device's own link to
 * it. */
static void link_port(struct fixture *f, const char *device, const char *port, const char *peer)
{
    char path[512], target[512];
    snprintf(path, sizeof(path), "%s%s", f->root, port);
    assert_int_equal(g_mkdir_with_parents(path, 0755), 0);
    snprintf(path, sizeof(path), "%s%s/port", f->root, device);
    snprintf(target, sizeof(target), "%s%s", f->root, port);
    assert_int_equal(symlink(target, path), 0);
    if (!peer)
        return;
    snprintf(target, sizeof(target), "%s%s", f->root, peer);
    assert_int_equal(g_mkdir_with_parents(target, 0755), 0);
    snprintf(path, sizeof(path), "%s%s/peer", f->root, port);
    assert_int_equal(symlink(target, path), 0);
}

static const struct plug edl = {
    .name = "1-5",
    .vid = 0x05c6,
    .pid = 0x9008,
    .bus = 1,
    .address = 7,
    .product = "QUSB_BULK_CID:0410_SN:49CBD7EF",
    .id_path = PCI_PATH "5",
    .interfaces = 1,
};

/* ---- tests ---- */

static void test_cold_plug(void **state)
{
    struct fixture *f = *state;
    _cleanup_free_ char *syspath = plug(f, &edl);
    start(f);
    assert_string_equal(group, "udev");
    assert_int_equal(f->n_told, 1); /* before watch_udev_new() returns */
    const struct told *t = &f->told[0];
    assert_true(t->here);
    assert_true(t->cold);
    assert_string_equal(t->key, syspath);
    assert_string_equal(t->port, PCI_PATH "5");
    assert_string_equal(t->kernel_name, "1-5");
    assert_string_equal(t->devnode, "/dev/bus/usb/001/007");
    assert_string_equal(t->product, "QUSB_BULK_CID:0410_SN:49CBD7EF");
    assert_int_equal(t->vid, 0x05c6);
    assert_int_equal(t->pid, 0x9008);
    assert_int_equal(t->interfaces, 1);

    /* Its event, which was under way while it was enumerated, is not a second appearance. Nor are later ones.
     */
    umockdev_testbed_uevent(f->testbed, syspath, "add");
    umockdev_testbed_uevent(f->testbed, syspath, "bind");
    umockdev_testbed_uevent(f->testbed, syspath, "change");
    run(f);
    assert_int_equal(f->n_told, 1);

    /* Freed, everybody hears the end. */
    f->watch = watch_free(f->watch);
    assert_int_equal(f->n_told, 2);
    assert_false(f->told[1].here);
}

static void test_hot_plug_and_removal(void **state)
{
    struct fixture *f = *state;
    start(f);
    run(f);
    assert_int_equal(f->n_told, 0);
    for (unsigned round = 0; round < 3; round++) { /* a loop */
        struct plug p = edl;
        p.address += round;
        char *syspath = plug(f, &p);
        run(f);
        assert_int_equal(f->n_told, 2 * round + 1);
        const struct told *t = &f->told[2 * round];
        assert_true(t->here);
        assert_false(t->cold);
        assert_string_equal(t->port, PCI_PATH "5");
        assert_string_equal(t->product, "QUSB_BULK_CID:0410_SN:49CBD7EF");
        unplug(f, syspath);
        run(f);
        assert_int_equal(f->n_told, 2 * round + 2);
        assert_false(f->told[2 * round + 1].here);
        assert_string_equal(f->told[2 * round + 1].key, t->key);
    }
}

static void test_strangers_are_ignored(void **state)
{
    struct fixture *f = *state;
    static const struct plug strangers[] = {
        {.name = "usb1", .vid = 0x1d6b, .pid = 0x0002, .bus = 1, .address = 1, .interfaces = 1},
        {.name = "1-1", .vid = 0x18d1, .pid = 0x4ee7, .bus = 1, .address = 2, .interfaces = 1},
        {.name = "1-2", .vid = 0x2c7c, .pid = 0x6005, .bus = 1, .address = 3, .interfaces = 5}, /* ASR */
        {.name = "1-3", .vid = 0x2c7c, .pid = 0x8101, .bus = 1, .address = 4, .interfaces = 5}, /* HiSilicon
                                                                                                 */
        {.name = "1-4", .vid = 0x05c6, .pid = 0x9008, .bus = 1, .address = 5, .ids = "5c6"},
        {.name = "1-6", .vid = 0x05c6, .pid = 0x9008, .bus = 1, .address = 6, .ids = "005c6/9008/0"},
        {.name = "1-7", .vid = 0x05c6, .pid = 0x9008, .bus = 1, .address = 8, .ids = "5c6/-9008/0"},
        {.name = "1-8", .vid = 0x05c6, .pid = 0x9008, .bus = 1, .address = 9, .ids = "//"},
    };
    char *paths[ARRAY_SIZE(strangers)];
    for (size_t i = 0; i < ARRAY_SIZE(strangers) / 2; i++)
        paths[i] = plug(f, &strangers[i]);
    start(f);
    for (size_t i = ARRAY_SIZE(strangers) / 2; i < ARRAY_SIZE(strangers); i++)
        paths[i] = plug(f, &strangers[i]);
    run(f);
    assert_int_equal(f->n_told, 0);
    for (size_t i = 0; i < ARRAY_SIZE(strangers); i++)
        unplug(f, paths[i]);
    run(f);
    assert_int_equal(f->n_told, 0);
}

/* 2-1.4 at SuperSpeed and 1-5.4 at high speed are one connector: hub 2-1 is the other half of hub 1-5. */
static void test_mode_switch_keeps_the_port(void **state)
{
    struct fixture *f = *state;
    static const struct plug normal = {
        .parent = "/sys/devices/hc/usb2/2-1",
        .name = "2-1.4",
        .vid = 0x2c7c,
        .pid = 0x0800,
        .bus = 2,
        .address = 3,
        .product = "RM502Q-GL",
        .id_path = PCI_PATH "1.4",
        .speed = "5000",
        .interfaces = 5,
    };
    struct plug switched = edl;
    switched.name = "1-5.4";
    switched.id_path = PCI_PATH "5.4";

    start(f);
    char *syspath = plug(f, &normal);
    link_port(f, syspath, "/sys/devices/hc/usb2/2-1/2-1:1.0/2-1-port4",
              "/sys/devices/hc/usb1/1-5/1-5:1.0/1-5-port4");
    run(f);
    unplug(f, syspath);
    run(f);
    syspath = plug(f, &switched);
    link_port(f, syspath, "/sys/devices/hc/usb1/1-5/1-5:1.0/1-5-port4", NULL);
    run(f);
    g_free(syspath);

    assert_int_equal(f->n_told, 3);
    assert_int_equal(f->told[0].pid, 0x0800);
    assert_string_equal(f->told[0].port, PCI_PATH "5.4");
    assert_string_equal(f->told[0].kernel_name, "2-1.4");
    assert_int_equal(f->told[0].interfaces, 5);
    assert_false(f->told[1].here);
    assert_int_equal(f->told[2].pid, 0x9008);
    assert_string_equal(f->told[2].port, PCI_PATH "5.4");
    assert_string_not_equal(f->told[0].key, f->told[2].key);
}

static void test_port_of_root_hubs_and_without_links(void **state)
{
    struct fixture *f = *state;
    struct plug p = {
        .parent = "/sys/devices/hc/usb2",
        .name = "2-1",
        .vid = 0x2c7c,
        .pid = 0x0801,
        .bus = 2,
        .address = 4,
        .id_path = PCI_PATH "1",
        .speed = "10000",
        .interfaces = 4,
    };
    start(f);
    g_free(plug(f, &p));
    link_port(f, "/sys/devices/hc/usb2/2-1", "/sys/devices/hc/usb2/2-0:1.0/usb2-port1",
              "/sys/devices/hc/usb1/1-0:1.0/usb1-port11");
    run(f);
    assert_string_equal(f->told[0].port, PCI_PATH "11");

    /* A high-speed device stands on the USB 2 side already, wherever its port's peer link leads. */
    p = edl;
    p.parent = "/sys/devices/hc/usb1";
    p.name = "1-12";
    p.id_path = PCI_PATH "12";
    g_free(plug(f, &p));
    link_port(f, "/sys/devices/hc/usb1/1-12", "/sys/devices/hc/usb1/1-0:1.0/usb1-port12",
              "/sys/devices/hc/usb2/2-0:1.0/usb2-port2");
    run(f);
    assert_string_equal(f->told[1].port, PCI_PATH "12");

    /* SuperSpeed without the link: its own path is the best there is. */
    p = (struct plug){.parent = "/sys/devices/hc/usb4",
                      .name = "4-2",
                      .vid = 0x2c7c,
                      .pid = 0x0801,
                      .bus = 4,
                      .address = 2,
                      .id_path = PCI_PATH "2",
                      .speed = "5000"};
    g_free(plug(f, &p));
    run(f);
    assert_string_equal(f->told[2].port, PCI_PATH "2");
    assert_int_equal(f->told[2].interfaces, 0); /* no descriptors: not known */

    /* And no ID_PATH is no port. */
    p = edl;
    p.name = "1-9";
    p.id_path = NULL;
    p.address = 20;
    g_free(plug(f, &p));
    run(f);
    assert_string_equal(f->told[3].port, "");
}

static void test_products_are_cleaned(void **state)
{
    struct fixture *f = *state;
    struct plug p = edl;
    p.product = "QUSB\x1b[2J\xff_SN:49cbd7ef";
    start(f);
    g_free(plug(f, &p));
    run(f);
    assert_string_equal(f->told[0].product, "QUSB\\x1b[2J\\xff_SN:49cbd7ef");
    char serial[9];
    assert_int_equal(appearance_serial(f->told[0].product, serial), 0);
    assert_string_equal(serial, "49cbd7ef");
}

static void test_a_device_that_udevd_has_not_finished(void **state)
{
    struct fixture *f = *state;
    struct plug p = edl;
    p.minor = "4242"; /* no such entry in udevd's database */
    char *syspath = plug(f, &p);
    start(f);
    assert_int_equal(f->n_told, 0);
    umockdev_testbed_uevent(f->testbed, syspath, "add");
    run(f);
    assert_int_equal(f->n_told, 1);
    assert_false(f->told[0].cold);
    g_free(syspath);
}

/* The same syspath, another device: one goodbye is never taken for the other's. */
static void test_late_and_lost_goodbyes(void **state)
{
    struct fixture *f = *state;
    struct plug p = edl;
    start(f);
    char *syspath = plug(f, &p);
    run(f);
    assert_int_equal(f->n_told, 1);

    /* Back under another address, the former's "remove" lost. */
    umockdev_testbed_remove_device(f->testbed, syspath);
    g_free(syspath);
    p.address = 8;
    p.pid = 0x900e;
    syspath = plug(f, &p);
    run(f);
    assert_int_equal(f->n_told, 3);
    assert_false(f->told[1].here);
    assert_int_equal(f->told[1].pid, 0x9008);
    assert_true(f->told[2].here);
    assert_int_equal(f->told[2].pid, 0x900e);
    assert_string_equal(f->told[2].devnode, "/dev/bus/usb/001/008");

    /* A "remove" of the former that comes now ends nothing. */
    umockdev_testbed_set_property(f->testbed, syspath, "DEVNUM", "007");
    umockdev_testbed_uevent(f->testbed, syspath, "remove");
    run(f);
    assert_int_equal(f->n_told, 3);

    /* An event whose device sysfs does not show any more tells what it knows itself, and not another's
     * product. */
    umockdev_testbed_set_property(f->testbed, syspath, "DEVNUM", "009");
    umockdev_testbed_uevent(f->testbed, syspath, "add");
    run(f);
    assert_int_equal(f->n_told, 5);
    assert_string_equal(f->told[4].product, "");
    assert_int_equal(f->told[4].interfaces, 0);
    unplug(f, syspath);
}

static void test_lost_events(void **state)
{
    struct fixture *f = *state;
    start(f);
    char *stays = plug(f, &edl);
    run(f);
    assert_int_equal(f->n_told, 1);

    struct plug p = edl;
    p.name = "1-6";
    p.address = 30;
    p.id_path = PCI_PATH "6";
    char *leaves = plug(f, &p);
    run(f);
    assert_int_equal(f->n_told, 2);

    /* One goes without a word, one comes, and the socket says that events were lost. */
    umockdev_testbed_remove_device(f->testbed, leaves);
    g_free(leaves);
    p.name = "1-7";
    p.address = 31;
    p.id_path = PCI_PATH "7";
    char *comes = plug(f, &p);
    overruns = 2;
    run(f);
    assert_int_equal(overruns, 0);
    assert_int_equal(f->n_told, 4);
    const struct told *gone = f->told[2].here ? &f->told[3] : &f->told[2];
    const struct told *here = f->told[2].here ? &f->told[2] : &f->told[3];
    assert_false(gone->here);
    assert_string_equal(gone->port, PCI_PATH "6");
    assert_true(here->here);
    assert_string_equal(here->port, PCI_PATH "7");
    assert_false(here->cold);
    g_free(stays);
    g_free(comes);
}

int main(void)
{
#define MOCK_TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        MOCK_TEST(test_cold_plug),
        MOCK_TEST(test_hot_plug_and_removal),
        MOCK_TEST(test_strangers_are_ignored),
        MOCK_TEST(test_mode_switch_keeps_the_port),
        MOCK_TEST(test_port_of_root_hubs_and_without_links),
        MOCK_TEST(test_products_are_cleaned),
        MOCK_TEST(test_a_device_that_udevd_has_not_finished),
        MOCK_TEST(test_late_and_lost_goodbyes),
        MOCK_TEST(test_lost_events),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
