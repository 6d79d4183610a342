/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "service/watch.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/epoll.h>
#include <libudev.h>

#include "base/text.h"

enum {
    /* A hub with a dozen looping modems speaks in bursts. The kernel cuts this to what it grants; when even
       that is too small (ENOBUFS), the devices are enumerated again. */
    RECEIVE_BUFFER = 4 * 1024 * 1024,

    PRODUCT_MAX = 4 * 126 + 1, /* a string descriptor holds 126 characters; each may become \xNN */
    SUPERSPEED_MBIT = 5000,

    /* The file "descriptors" begins with the device descriptor, then the first configuration's. */
    CONFIG_OFFSET = 18,
    CONFIG_INTERFACES = 4, /* bNumInterfaces */
    DESCRIPTORS_HEAD = CONFIG_OFFSET + CONFIG_INTERFACES + 1,
};

struct device {
    struct device *next;
    struct appearance *appearance;
    uint64_t address; /* bus << 32 | device number: what tells two devices on one port apart; 0 unknown */
    bool present;     /* mark of enumerate() */
};

struct watch_udev {
    struct watch base;
    struct watch_handler handler;
    struct udev *udev;
    struct udev_monitor *monitor;
    sd_event_source *source;
    struct device *devices;
    bool stale; /* events were lost and the devices could not be enumerated yet */
};

static void udev_device_unrefp(struct udev_device **d)
{
    udev_device_unref(*d);
}

static void udev_enumerate_unrefp(struct udev_enumerate **e)
{
    udev_enumerate_unref(*e);
}

/* ---- what udev knows of a device ---- */

/* Decimal property or attribute text; 0 if it is not there or not a number. */
static uint64_t number_of(const char *text)
{
    uint64_t n = 0;
    return text && text_parse_u64(text, 10, UINT32_MAX, &n) == 0 ? n : 0;
}

static uint64_t address_of(struct udev_device *d)
{
    /* BUSNUM is padded ("001"): decimal all the same. */
    return number_of(udev_device_get_property_value(d, "BUSNUM")) << 32 |
           number_of(udev_device_get_property_value(d, "DEVNUM"));
}

/*
 * True while sysfs still shows the device that the event is about. Events are read late when the loop is
 * busy, and a looping modem may have gone and come back as something else under the same path.
 */
static bool sysfs_is_current(struct udev_device *d, uint64_t address)
{
    uint64_t devnum = number_of(udev_device_get_sysattr_value(d, "devnum"));
    return devnum != 0 && (address == 0 || devnum == (address & UINT32_MAX));
}

/* The ids as the event itself carries them: PRODUCT=5c6/9008/0, hexadecimal without leading zeros. */
static int read_ids(struct udev_device *d, uint16_t *ret_vid, uint16_t *ret_pid)
{
    const char *text = udev_device_get_property_value(d, "PRODUCT");
    uint16_t values[2];
    for (unsigned i = 0; i < ARRAY_SIZE(values); i++) {
        const char *end = text ? strchr(text, '/') : NULL;
        char part[5]; /* 4 digits */
        uint64_t n;
        if (!end || (size_t)(end - text) >= sizeof(part))
            return -EINVAL;
        memcpy(part, text, (size_t)(end - text));
        part[end - text] = '\0';
        if (text_parse_u64(part, 16, UINT16_MAX, &n) < 0)
            return -EINVAL;
        values[i] = (uint16_t)n;
        text = end + 1;
    }
    *ret_vid = values[0];
    *ret_pid = values[1];
    return 0;
}

/*
 * From the descriptors and not from bNumInterfaces, which is empty until the kernel has chosen a
 * configuration; the "add" event is older than that.
 */
static unsigned count_interfaces(const char *syspath)
{
    char path[PATH_MAX];
    uint8_t head[DESCRIPTORS_HEAD];
    if (snprintf(path, sizeof(path), "%s/descriptors", syspath) >= (int)sizeof(path))
        return 0;
    _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || read(fd, head, sizeof(head)) != (ssize_t)sizeof(head))
        return 0;
    return head[CONFIG_OFFSET + CONFIG_INTERFACES];
}

/*
 * The port path below the bus ("1.4") of the USB 2 side of a SuperSpeed device's connector: sysfs links the
 * hub port that it is plugged into with the same connector's other half, "usb1-port5" on a root hub or
 * "1-5-port4". The numbers of the two halves of a root hub need not be equal. NULL if there is no such link,
 * or no memory.
 */
static char *peer_port(const char *syspath)
{
    char link[PATH_MAX], target[PATH_MAX];
    if (snprintf(link, sizeof(link), "%s/port/peer", syspath) >= (int)sizeof(link) || !realpath(link, target))
        return NULL;
    char *name = strrchr(target, '/') + 1;
    char *mark = strstr(name, "-port");
    if (!mark)
        return NULL;
    const char *number = mark + strlen("-port");
    *mark = '\0';
    if (number_of(number) == 0)
        return NULL;
    if (text_starts_with(name, "usb"))
        return strdup(number);
    const char *hub = strchr(name, '-');
    return hub ? text_printf("%s.%s", hub + 1, number) : NULL;
}

/* ID_PATH; "" if udev has none, or one that is no name for a file. */
static const char *path_of(struct udev_device *d)
{
    const char *id_path = udev_device_get_property_value(d, "ID_PATH");
    return id_path && appearance_port_fits(id_path) ? id_path : "";
}

/*
 * ID_PATH of the USB 2 side, so that a modem has the same port in SuperSpeed normal mode and in high-speed
 * EDL (reference/edl.md 3.3). udev ends it in "usb-0:" and the port path. "" if udev has none.
 */
static char *connector(struct udev_device *d)
{
    const char *id_path = path_of(d);
    const char *own = strchr(udev_device_get_sysname(d), '-');
    size_t length = strlen(id_path), own_length = own ? strlen(own + 1) : 0;
    bool superspeed = number_of(udev_device_get_sysattr_value(d, "speed")) >= SUPERSPEED_MBIT;
    if (!superspeed || !own || length <= own_length || !text_ends_with(id_path, own + 1) ||
        id_path[length - own_length - 1] != ':')
        return strdup(id_path);
    _cleanup_free_ char *peer = peer_port(udev_device_get_syspath(d));
    if (!peer)
        return strdup(id_path);
    return text_printf("%.*s%s", (int)(length - own_length), id_path, peer);
}

static char *product_of(struct udev_device *d, bool current)
{
    const char *text = current ? udev_device_get_sysattr_value(d, "product") : NULL;
    char clean[PRODUCT_MAX];
    if (!text)
        return strdup("");
    text_clean(text, strlen(text), clean, sizeof(clean));
    return strdup(clean);
}

static struct appearance *describe(struct udev_device *d, uint16_t vid, uint16_t pid, bool cold)
{
    _cleanup_(appearance_freep) struct appearance *a = calloc(1, sizeof(*a));
    if (!a)
        return NULL;
    bool current = sysfs_is_current(d, address_of(d));
    *a = (struct appearance){
        .key = strdup(udev_device_get_syspath(d)),
        .port = connector(d),
        .kernel_name = strdup(udev_device_get_sysname(d)),
        .devnode = strdup(udev_device_get_devnode(d)),
        .product = product_of(d, current),
        .vid = vid,
        .pid = pid,
        .interfaces = current ? count_interfaces(udev_device_get_syspath(d)) : 0,
        .cold = cold,
        .virtual_fd = -1,
    };
    if (!a->key || !a->port || !a->kernel_name || !a->devnode || !a->product)
        return NULL;
    return steal_ptr(a);
}

/* ---- who is there ---- */

static struct device **find(struct watch_udev *w, const char *syspath)
{
    struct device **i = &w->devices;
    while (*i && strcmp((*i)->appearance->key, syspath) != 0)
        i = &(*i)->next;
    return i;
}

static void leave(struct watch_udev *w, struct device **where)
{
    struct device *gone = *where;
    *where = gone->next;
    w->handler.gone(w->handler.userdata, gone->appearance);
    appearance_free(gone->appearance);
    free(gone);
}

/* Seen by an event or by the enumeration, or by both: the first one counts. */
static void arrive(struct watch_udev *w, struct udev_device *d, bool cold)
{
    const char *syspath = udev_device_get_syspath(d);
    uint64_t address = address_of(d);
    struct device **known = find(w, syspath);
    if (*known && (*known)->address == address) {
        (*known)->present = true;
        return;
    }
    if (*known) /* another device; the end of the former one was lost */
        leave(w, known);

    uint16_t vid, pid;
    if (read_ids(d, &vid, &pid) < 0 || !appearance_is_candidate(vid, pid) || !udev_device_get_devnode(d))
        return;
    struct device *new = calloc(1, sizeof(*new));
    if (!new)
        return;
    *new = (struct device){
        .next = w->devices, .appearance = describe(d, vid, pid, cold), .address = address, .present = true};
    if (!new->appearance) {
        free(new);
        return;
    }
    w->devices = new;
    w->handler.appeared(w->handler.userdata, new->appearance);
}

static void depart(struct watch_udev *w, struct udev_device *d)
{
    struct device **known = find(w, udev_device_get_syspath(d));
    uint64_t address = address_of(d);
    /* A late goodbye must not end the device that came after. */
    if (*known && (address == 0 || (*known)->address == address))
        leave(w, known);
}

/* Brings the list in line with what is there now: at the start, and when events were lost. */
static int enumerate(struct watch_udev *w, bool cold)
{
    _cleanup_(udev_enumerate_unrefp) struct udev_enumerate *e = udev_enumerate_new(w->udev);
    if (!e)
        return -ENOMEM;
    int r = udev_enumerate_add_match_subsystem(e, "usb");
    if (r >= 0)
        r = udev_enumerate_add_match_property(e, "DEVTYPE", "usb_device");
    /* What udevd has not finished yet comes as an event, with its ID_PATH and with its node's group in place.
     */
    if (r >= 0)
        r = udev_enumerate_add_match_is_initialized(e);
    if (r >= 0)
        r = udev_enumerate_scan_devices(e);
    if (r < 0)
        return r;

    for (struct device *i = w->devices; i; i = i->next)
        i->present = false;
    struct udev_list_entry *entry;
    udev_list_entry_foreach(entry, udev_enumerate_get_list_entry(e))
    {
        _cleanup_(udev_device_unrefp) struct udev_device *d =
            udev_device_new_from_syspath(w->udev, udev_list_entry_get_name(entry));
        if (d)
            arrive(w, d, cold);
    }
    for (struct device **i = &w->devices; *i;)
        if ((*i)->present)
            i = &(*i)->next;
        else
            leave(w, i);
    return 0;
}

static int on_events(sd_event_source *source _unused_, int fd _unused_, uint32_t events _unused_,
                     void *userdata)
{
    struct watch_udev *w = userdata;
    for (;;) {
        if (w->stale)
            w->stale = enumerate(w, false) < 0; /* without memory: again with the next event */
        errno = 0;
        _cleanup_(udev_device_unrefp) struct udev_device *d = udev_monitor_receive_device(w->monitor);
        if (!d && errno == ENOBUFS) {
            w->stale = true;
            continue;
        }
        if (!d)
            return 0;
        const char *action = udev_device_get_action(d);
        if (!action)
            continue;
        if (strcmp(action, "remove") == 0)
            depart(w, d);
        else if (strcmp(action, "add") == 0)
            arrive(w, d, false);
        /* change, bind, unbind: nothing of ours changes with them */
    }
}

/* ---- life ---- */

static void watch_udev_free(struct watch *base)
{
    struct watch_udev *w = (struct watch_udev *)base;
    while (w->devices)
        leave(w, &w->devices);
    sd_event_source_disable_unref(w->source);
    udev_monitor_unref(w->monitor);
    udev_unref(w->udev);
    free(w);
}

static const struct watch_ops udev_ops = {.free = watch_udev_free};

static int start(struct watch_udev *w, sd_event *event)
{
    w->udev = udev_new();
    w->monitor = w->udev ? udev_monitor_new_from_netlink(w->udev, "udev") : NULL;
    if (!w->monitor)
        return errno > 0 ? -errno : -ENOMEM;
    (void)udev_monitor_set_receive_buffer_size(w->monitor, RECEIVE_BUFFER);
    int r = udev_monitor_filter_add_match_subsystem_devtype(w->monitor, "usb", "usb_device");
    if (r < 0)
        return r;
    r = udev_monitor_enable_receiving(w->monitor);
    if (r < 0)
        return r;
    r = sd_event_add_io(event, &w->source, udev_monitor_get_fd(w->monitor), EPOLLIN, on_events, w);
    if (r < 0)
        return r;
    return enumerate(w, true);
}

int watch_udev_new(sd_event *event, const struct watch_handler *handler, struct watch **ret)
{
    struct watch_udev *w = calloc(1, sizeof(*w));
    if (!w)
        return -ENOMEM;
    w->base.ops = &udev_ops;
    w->handler = *handler;
    int r = start(w, event);
    if (r < 0) {
        watch_udev_free(&w->base);
        return r;
    }
    *ret = &w->base;
    return 0;
}
