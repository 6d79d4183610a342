/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "gadget.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/usb/ch9.h>
#include <linux/usb/functionfs.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    INTERFACES_MAX = 5,
    DESCRIPTORS_SIZE = 1024,
    FULL_SPEED_PACKET = 64,
    NOTIFY_PACKET = 10,
    NOTIFY_INTERVAL = 9,
};

#define LINK "configs/c.1/function"

/* ---- descriptors ---- */

/* A list of them as FunctionFS wants it, for one speed after the other. */
struct descriptors {
    uint8_t bytes[DESCRIPTORS_SIZE];
    size_t length;
    uint32_t count;
    unsigned in, out;
};

static void add(struct descriptors *d, const void *descriptor, size_t length)
{
    memcpy(d->bytes + d->length, descriptor, length);
    d->length += length;
    d->count++;
}

/* Their numbers only tell them apart; the controller gives them its own. */
static void add_endpoint(struct descriptors *d, uint8_t direction, uint8_t type, unsigned packet)
{
    struct usb_endpoint_descriptor_no_audio e = {
        .bLength = sizeof(e),
        .bDescriptorType = USB_DT_ENDPOINT,
        .bEndpointAddress = (uint8_t)(direction | (direction == USB_DIR_IN ? ++d->in : ++d->out)),
        .bmAttributes = type,
        .wMaxPacketSize = (uint16_t)(type == USB_ENDPOINT_XFER_INT ? NOTIFY_PACKET : packet),
        .bInterval = type == USB_ENDPOINT_XFER_INT ? NOTIFY_INTERVAL : 0,
    };
    struct usb_ss_ep_comp_descriptor companion = {.bLength = sizeof(companion),
                                                  .bDescriptorType = USB_DT_SS_ENDPOINT_COMP};

    if (type == USB_ENDPOINT_XFER_INT && packet == PORT_SUPER_SPEED_PACKET)
        companion.wBytesPerInterval = NOTIFY_PACKET;
    add(d, &e, sizeof(e));
    if (packet == PORT_SUPER_SPEED_PACKET)
        add(d, &companion, sizeof(companion));
}

/* dummy_hcd has endpoints of fixed numbers, enough for all interfaces but the last, and then some that are
   counted from 1 on, so that the first two of each direction have the numbers of others. Hosts pass over
   these: they are in the last interface and nobody's. */
static void add_spent_numbers(struct descriptors *d, unsigned packet)
{
    for (unsigned i = 0; i < 2; i++) {
        add_endpoint(d, USB_DIR_IN, USB_ENDPOINT_XFER_BULK, packet);
        add_endpoint(d, USB_DIR_OUT, USB_ENDPOINT_XFER_BULK, packet);
    }
}

static void add_interface(struct descriptors *d, const struct port_identity *id, unsigned number,
                          unsigned packet)
{
    bool live = number == id->live;
    struct usb_interface_descriptor i = port_interface(id, number);

    add(d, &i, sizeof(i));
    if (!live && !port_is_serial(id, number))
        add_spent_numbers(d, packet);
    add_endpoint(d, USB_DIR_IN, USB_ENDPOINT_XFER_BULK, packet);
    add_endpoint(d, USB_DIR_OUT, USB_ENDPOINT_XFER_BULK, packet);
    /* Behind them: an interrupt endpoint also takes one that a later interface needs for bulk. */
    if (!live)
        add_endpoint(d, USB_DIR_IN, USB_ENDPOINT_XFER_INT, packet);
}

static void add_speed(struct descriptors *d, const struct port_identity *id, unsigned packet,
                      uint32_t *ret_count)
{
    d->count = d->in = d->out = 0;
    for (unsigned i = 0; i < id->interfaces; i++)
        add_interface(d, id, i, packet);
    *ret_count = d->count;
}

static ssize_t write_descriptors(int control, const struct port_identity *id)
{
    static const struct usb_functionfs_strings_head strings = {.magic = FUNCTIONFS_STRINGS_MAGIC,
                                                               .length = sizeof(strings)};
    static const unsigned packets[] = {FULL_SPEED_PACKET, PORT_HIGH_SPEED_PACKET, PORT_SUPER_SPEED_PACKET};
    struct usb_functionfs_descs_head_v2 head = {.magic = FUNCTIONFS_DESCRIPTORS_MAGIC_V2,
                                                .flags = FUNCTIONFS_HAS_FS_DESC | FUNCTIONFS_HAS_HS_DESC};
    unsigned speeds = id->super_speed ? 3 : 2;
    struct descriptors d = {.length = sizeof(head) + speeds * sizeof(uint32_t)};
    ssize_t n;

    if (id->super_speed)
        head.flags |= FUNCTIONFS_HAS_SS_DESC;
    for (unsigned i = 0; i < speeds; i++) {
        uint32_t count;

        add_speed(&d, id, packets[i], &count);
        memcpy(d.bytes + sizeof(head) + i * sizeof(count), &count, sizeof(count));
    }
    head.length = (uint32_t)d.length;
    memcpy(d.bytes, &head, sizeof(head));
    n = write(control, d.bytes, d.length);
    return n < 0 ? n : write(control, &strings, sizeof(strings));
}

/* ---- the tree ---- */

static int complain(int r, const struct gadget *g, const char *what)
{
    fprintf(stderr, "virtual-modem: gadget on %s: %s: %s\n", g->udc, what, strerror(-r));
    return r;
}

static void path_of(char *path, const struct gadget *g, const char *name)
{
    snprintf(path, GADGET_PATH_MAX, "%.150s/%.100s", g->tree, name);
}

static int put(const struct gadget *g, const char *name, const char *value)
{
    char path[GADGET_PATH_MAX];
    size_t length = strlen(value);
    int fd, r = 0;

    path_of(path, g, name);
    fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    if (write(fd, value, length) != (ssize_t)length)
        r = -errno;
    close(fd);
    return r;
}

static int put_number(const struct gadget *g, const char *name, unsigned value)
{
    char text[16];

    snprintf(text, sizeof(text), "0x%04x", value);
    return put(g, name, text);
}

static int make_directory(const struct gadget *g, const char *name)
{
    char path[GADGET_PATH_MAX];

    path_of(path, g, name);
    return mkdir(path, 0755) < 0 ? -errno : 0;
}

void gadget_init(struct gadget *g, const char *udc)
{
    *g = (struct gadget){.control = -1, .in = -1, .out = -1};
    snprintf(g->udc, sizeof(g->udc), "%s", udc);
    snprintf(g->name, sizeof(g->name), "modem-%.50s", udc);
    snprintf(g->function, sizeof(g->function), "functions/ffs.%.60s", g->name);
    snprintf(g->tree, sizeof(g->tree), "/sys/kernel/config/usb_gadget/%s", g->name);
    snprintf(g->mount, sizeof(g->mount), "/run/virtual-modem/%s", g->name);
    gadget_unbind(g);
    gadget_remove(g);
}

/* In the order in which configfs wants it. */
static int make_tree(const struct gadget *g, const struct port_identity *id)
{
    int r = make_directory(g, "");

    if (r == 0)
        r = put_number(g, "idVendor", id->vid);
    if (r == 0)
        r = put_number(g, "idProduct", id->pid);
    if (r == 0)
        r = put_number(g, "bcdUSB", 0x0200);
    if (r == 0)
        r = put_number(g, "bcdDevice", 0);
    /* On a controller of both it is another bus, and another port of the same connector. */
    if (r == 0)
        r = put(g, "max_speed", id->super_speed ? "super-speed" : "high-speed");
    if (r == 0)
        r = make_directory(g, "strings/0x409");
    if (r == 0)
        r = put(g, "strings/0x409/manufacturer", "Qualcomm CDMA Technologies MSM");
    if (r == 0)
        r = put(g, "strings/0x409/product", id->product);
    if (r == 0)
        r = make_directory(g, "configs/c.1");
    if (r == 0)
        r = make_directory(g, g->function);
    return r;
}

static int mount_function(const struct gadget *g)
{
    /* functions/ffs.NAME is mounted by this NAME. */
    if (mkdir("/run/virtual-modem", 0755) < 0 && errno != EEXIST)
        return -errno;
    if (mkdir(g->mount, 0755) < 0 && errno != EEXIST)
        return -errno;
    return mount(g->name, g->mount, "functionfs", 0, NULL) < 0 ? -errno : 0;
}

static int open_file(const struct gadget *g, const char *name)
{
    char path[GADGET_PATH_MAX];
    int fd;

    snprintf(path, sizeof(path), "%.200s/%s", g->mount, name);
    fd = open(path, O_RDWR | O_CLOEXEC | O_NONBLOCK);
    return fd < 0 ? -errno : fd;
}

int gadget_plug(struct gadget *g, const struct port_identity *id)
{
    char function[GADGET_PATH_MAX], link[GADGET_PATH_MAX], in[16], out[16];
    int r;

    if (id->interfaces == 0 || id->interfaces > INTERFACES_MAX ||
        id->live >= (id->interfaces > 1 ? id->interfaces - 1 : 1))
        return complain(-EINVAL, g, "interfaces");
    r = make_tree(g, id);
    if (r < 0)
        return complain(r, g, g->tree);
    r = mount_function(g);
    if (r < 0)
        return complain(r, g, g->mount);
    g->control = open_file(g, "ep0");
    if (g->control < 0)
        return complain(g->control, g, "ep0");
    if (write_descriptors(g->control, id) < 0)
        return complain(-errno, g, "descriptors");
    g->packet = id->super_speed ? PORT_SUPER_SPEED_PACKET : PORT_HIGH_SPEED_PACKET;
    /* Those before it have three each. */
    snprintf(in, sizeof(in), "ep%u", 3 * id->live + 1);
    snprintf(out, sizeof(out), "ep%u", 3 * id->live + 2);
    g->in = open_file(g, in);
    g->out = open_file(g, out);
    if (g->in < 0 || g->out < 0)
        return complain(g->in < 0 ? g->in : g->out, g, "endpoints");
    path_of(function, g, g->function);
    path_of(link, g, LINK);
    if (symlink(function, link) < 0)
        return complain(-errno, g, link);
    r = put(g, "UDC", g->udc);
    return r < 0 ? complain(r, g, "UDC") : 0;
}

void gadget_unbind(struct gadget *g)
{
    put(g, "UDC", "\n");
}

void gadget_remove(struct gadget *g)
{
    const char *const directories[] = {g->function, "configs/c.1", "strings/0x409", ""};
    char path[GADGET_PATH_MAX];
    int *files[] = {&g->in, &g->out, &g->control};

    for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
        if (*files[i] >= 0)
            close(*files[i]);
        *files[i] = -1;
    }
    path_of(path, g, LINK);
    unlink(path);
    umount2(g->mount, MNT_DETACH);
    rmdir(g->mount);
    for (size_t i = 0; i < sizeof(directories) / sizeof(directories[0]); i++) {
        path_of(path, g, directories[i]);
        rmdir(path);
    }
}
