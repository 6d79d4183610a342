/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the doctor sees of the USB devices: only what anybody may read. */
#include <dirent.h>
#include <errno.h>
#include <grp.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "doctor.h"

#define SYS_DEVICES "/sys/bus/usb/devices"
#define NODE_GROUP  "qdld"

enum { DEVICES_MAX = 512, ATTRIBUTE_MAX = 64, OTHERS = S_IRWXO };

/* The ids of the ROM's download mode and of its crash dump: the nodes that are ours alone (60-qdld.rules). */
static bool is_download_mode(const char *vid, const char *pid)
{
    return strcmp(vid, "05c6") == 0 && (strcmp(pid, "9008") == 0 || strcmp(pid, "900e") == 0);
}

static bool is_candidate(const char *vid, const char *pid)
{
    return strcmp(vid, "2c7c") == 0 || is_download_mode(vid, pid);
}

/* One line of an attribute; "" if it cannot be read. */
static const char *attribute(const char *device, const char *name, char out[ATTRIBUTE_MAX])
{
    char path[PATH_MAX];
    snprintf(path, sizeof(path), SYS_DEVICES "/%s/%s", device, name);
    *out = '\0';
    FILE *f = fopen(path, "re");
    if (!f)
        return out;
    if (fgets(out, ATTRIBUTE_MAX, f))
        out[strcspn(out, "\n")] = '\0';
    fclose(f);
    return out;
}

/* The driver of its first interface; "" if none. */
static void driver_of(const char *device, char out[ATTRIBUTE_MAX])
{
    char path[PATH_MAX], target[PATH_MAX];
    snprintf(path, sizeof(path), SYS_DEVICES "/%s:1.0/driver", device);
    ssize_t n = readlink(path, target, sizeof(target) - 1);
    *out = '\0';
    if (n <= 0)
        return;
    target[n] = '\0';
    const char *slash = strrchr(target, '/');
    snprintf(out, ATTRIBUTE_MAX, "%.60s", slash ? slash + 1 : target);
}

static void check_node(const char *device, const char *title)
{
    char bus[ATTRIBUTE_MAX], number[ATTRIBUTE_MAX], node[PATH_MAX];
    struct stat st;
    attribute(device, "busnum", bus);
    attribute(device, "devnum", number);
    snprintf(node, sizeof(node), "/dev/bus/usb/%03d/%03d", atoi(bus), atoi(number));
    if (stat(node, &st) < 0) {
        doctor_say(DOCTOR_PROBLEM, "sudo udevadm trigger --subsystem-match=usb",
                   "%s has no device node %s: %s.", title, node, strerror(errno));
        return;
    }
    const struct group *group = getgrgid(st.st_gid);
    bool ours = group && strcmp(group->gr_name, NODE_GROUP) == 0;
    /* An access list is what udev's uaccess leaves: whoever sits at the machine could open it. */
    bool listed = getxattr(node, "system.posix_acl_access", NULL, 0) > 0;
    if (!ours)
        doctor_say(DOCTOR_PROBLEM,
                   "sudo udevadm control --reload; sudo udevadm trigger --subsystem-match=usb; then plug it "
                   "in again",
                   "The service cannot open %s: %s belongs to group %s instead of " NODE_GROUP ".", title,
                   node, group ? group->gr_name : "?");
    else if (listed || (st.st_mode & OTHERS))
        doctor_say(
            DOCTOR_PROBLEM,
            "look for a rule behind 60-qdld.rules: grep -l 9008 /etc/udev/rules.d/* /lib/udev/rules.d/*",
            "More than the service may open %s: %s has mode %04o%s. Another program can disturb a flash.",
            title, node, st.st_mode & 07777, listed ? " and an access list" : "");
    else
        doctor_say(DOCTOR_OK, NULL, "Only the service and root can open %s.", title);
}

static void check_driver(const char *device, const char *title)
{
    char driver[ATTRIBUTE_MAX];
    driver_of(device, driver);
    if (strcmp(driver, "usbfs") == 0)
        doctor_say(
            doctor_has_job(device) ? DOCTOR_OK : DOCTOR_PROBLEM,
            doctor_has_job(device)
                ? NULL
                : "end the other program (sudo fuser -v /dev/bus/usb/*/*), or inhibit: qdlctl inhibit --help",
            doctor_has_job(device) ? "%s is in the service's hands." : "Another program has %s in its hands.",
            title);
    else if (*driver)
        doctor_say(DOCTOR_OK, NULL,
                   "The kernel's driver %s has %s; the service takes it from there by itself.", driver,
                   title);
}

static void check_power(const char *device, const char *title)
{
    char control[ATTRIBUTE_MAX];
    if (strcmp(attribute(device, "power/control", control), "auto") == 0)
        doctor_say(DOCTOR_NOTE, "sudo udevadm trigger --subsystem-match=usb",
                   "%s may be suspended by the kernel when nobody has it open.", title);
}

static void check_known(const char *device, const char *title)
{
    if (!doctor_knows(device))
        doctor_say(DOCTOR_PROBLEM, "sudo systemctl restart qdld (no job is cut off but shown as interrupted)",
                   "The service does not see %s.", title);
}

static void check_device(const char *device)
{
    char vid[ATTRIBUTE_MAX], pid[ATTRIBUTE_MAX], title[3 * ATTRIBUTE_MAX];
    attribute(device, "idVendor", vid);
    attribute(device, "idProduct", pid);
    if (!is_candidate(vid, pid))
        return;
    snprintf(title, sizeof(title), "%.8s:%.8s at %.40s", vid, pid, device);
    check_known(device, title);
    if (!is_download_mode(vid, pid))
        return;
    check_node(device, title);
    check_driver(device, title);
    check_power(device, title);
}

static bool is_device(const char *name)
{
    return name[0] >= '0' && name[0] <= '9' && !strchr(name, ':');
}

static int compare(const void *a, const void *b)
{
    return strcmp(a, b);
}

void doctor_check_usb(void)
{
    static char names[DEVICES_MAX][ATTRIBUTE_MAX];
    size_t n = 0;
    DIR *directory = opendir(SYS_DEVICES);
    if (!directory) {
        doctor_say(DOCTOR_PROBLEM, "sudo modprobe usbcore", "This machine has no USB: " SYS_DEVICES ": %s.",
                   strerror(errno));
        return;
    }
    for (const struct dirent *d; n < DEVICES_MAX && (d = readdir(directory));)
        if (is_device(d->d_name))
            snprintf(names[n++], ATTRIBUTE_MAX, "%.60s", d->d_name);
    closedir(directory);
    qsort(names, n, sizeof(names[0]), compare);
    for (size_t i = 0; i < n; i++)
        check_device(names[i]);
}
