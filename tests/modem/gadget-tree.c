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
    ENDPOINTS_PER_INTERFACE = 2,
    FULL_SPEED_PACKET = 64,
    INTERFACE_VENDOR = 0xFF,
    PROTOCOL_EDL = 0xFF,
    PROTOCOL_DIAG = 0x30,
};

#define LINK "configs/c.1/function"

/* ---- descriptors ---- */

struct interface_block {
    struct usb_interface_descriptor interface;
    struct usb_endpoint_descriptor_no_audio in, out;
} __attribute__((packed));

struct descriptors {
    struct usb_functionfs_descs_head_v2 head;
    uint32_t full_speed_count, high_speed_count;
    struct interface_block blocks[2 * INTERFACES_MAX];
} __attribute__((packed));

static struct usb_endpoint_descriptor_no_audio endpoint(unsigned address, unsigned packet)
{
    return (struct usb_endpoint_descriptor_no_audio){
        .bLength = sizeof(struct usb_endpoint_descriptor_no_audio),
        .bDescriptorType = USB_DT_ENDPOINT,
        .bEndpointAddress = (uint8_t)address,
        .bmAttributes = USB_ENDPOINT_XFER_BULK,
        .wMaxPacketSize = (uint16_t)packet,
    };
}

/* 9008 has one interface ff/ff/ff; of normal mode's only the first (DIAG, ff/ff/30) is alive, the others are
 * there to be seen: serial ports ff/00/00, then ff/ff/ff for the network (reference/edl.md 3.1). */
static struct interface_block interface(unsigned number, unsigned count, unsigned packet)
{
    bool serial = number > 0 && number < count - 1, diag = number == 0 && count > 1;
    struct interface_block b = {
        .interface = {.bLength = sizeof(b.interface),
                      .bDescriptorType = USB_DT_INTERFACE,
                      .bInterfaceNumber = (uint8_t)number,
                      .bNumEndpoints = ENDPOINTS_PER_INTERFACE,
                      .bInterfaceClass = INTERFACE_VENDOR,
                      .bInterfaceSubClass = serial ? 0 : INTERFACE_VENDOR,
                      .bInterfaceProtocol = serial ? 0
                                            : diag ? PROTOCOL_DIAG
                                                   : PROTOCOL_EDL},
        .in = endpoint(USB_DIR_IN | (2 * number + 1), packet),
        .out = endpoint(USB_DIR_OUT | (2 * number + 2), packet),
    };

    return b;
}

static ssize_t write_descriptors(int control, unsigned interfaces)
{
    static const struct usb_functionfs_strings_head strings = {.magic = FUNCTIONFS_STRINGS_MAGIC,
                                                               .length = sizeof(strings)};
    struct descriptors d = {.head = {.magic = FUNCTIONFS_DESCRIPTORS_MAGIC_V2,
                                     .flags = FUNCTIONFS_HAS_FS_DESC | FUNCTIONFS_HAS_HS_DESC}};
    size_t length = offsetof(struct descriptors, blocks) + 2 * interfaces * sizeof(struct interface_block);
    ssize_t n;

    d.head.length = (uint32_t)length;
    d.full_speed_count = d.high_speed_count = interfaces * (1 + ENDPOINTS_PER_INTERFACE);
    for (unsigned i = 0; i < interfaces; i++) {
        d.blocks[i] = interface(i, interfaces, FULL_SPEED_PACKET);
        d.blocks[interfaces + i] = interface(i, interfaces, GADGET_MAX_PACKET);
    }
    n = write(control, &d, length);
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
static int make_tree(const struct gadget *g, const struct gadget_identity *id)
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

int gadget_plug(struct gadget *g, const struct gadget_identity *id)
{
    char function[GADGET_PATH_MAX], link[GADGET_PATH_MAX];
    int r;

    if (id->interfaces == 0 || id->interfaces > INTERFACES_MAX)
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
    if (write_descriptors(g->control, id->interfaces) < 0)
        return complain(-errno, g, "descriptors");
    g->in = open_file(g, "ep1");
    g->out = open_file(g, "ep2");
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
